"""The command `coldfusion init`."""
