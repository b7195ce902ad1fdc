"""Benchmarks of time and memory: `python -m coldfusion_fl.experiments.bench`."""
