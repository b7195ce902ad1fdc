"""Experiments with ColD Fusion, and the simulation that runs them."""
