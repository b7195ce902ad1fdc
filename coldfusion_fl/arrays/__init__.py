"""Encoders as arrays by name: blocks on all cores, arrays on disk, checks and hashes."""
