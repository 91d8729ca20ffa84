"""BM25 through Pyserini's JVM, vectors, dense search."""
