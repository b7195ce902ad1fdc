"""Benchmarks of a deployed federation, with real processes on this machine."""
