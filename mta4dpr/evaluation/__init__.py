"""Runs, measures, significance and timing: the one place where rankings become numbers."""
