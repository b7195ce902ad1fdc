"""The command line `coldfusion`."""
