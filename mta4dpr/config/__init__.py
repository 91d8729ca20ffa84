"""What a user may set: benchmarks, their options, and code of one's own that they name."""
