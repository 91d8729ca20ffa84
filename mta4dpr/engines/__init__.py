"""Engines: the ways to rank a corpus (BM25, dense retrieval), or at least to score pairs of query and passage. A file and an entry each."""
