"""Benchmarks: every figure is a ratio of things measured in one run, in interleaved rounds."""
