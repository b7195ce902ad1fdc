"""Catalogues of tasks that ship with the package, as TOML files."""
