"""private-mods."""
