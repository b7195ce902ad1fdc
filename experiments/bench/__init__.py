"""What the project costs in time and memory, measured: `python -m coldfusion_fl.experiments.bench`."""
