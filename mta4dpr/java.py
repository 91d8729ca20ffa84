"""Importing this module starts Java as mta4dpr does, so that Pyserini, imported after it, works with the Java that is found.

Pyserini alone takes the first Java that it meets and ends the process where that one is too old or lacks a module. EnvironmentLack where
there is none that will do. Must not know what is searched.
"""

from mta4dpr.retrieval.java import start

start()
