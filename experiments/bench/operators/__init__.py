"""Benchmarks of the operators that fuse."""
