"""The tiny corpus and queries of the distiller's tests."""

from ..distill.conftest import cache, corpus, passages, queries  # noqa: F401 (fixtures)
