"""The Python API: the functions of `import coldfusion_fl as cf`. The commands are functions over the same code."""
