"""mta4dpr: a benchmark suite for distilling small dense retrievers, integrated with Pyserini."""

__version__ = "0.1.0"
