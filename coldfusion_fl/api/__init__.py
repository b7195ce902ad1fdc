"""The Python API: the functions of `import coldfusion_fl as cf`.

The commands call the same packages below this one. Of this one, they use `run_defaults`.
"""
