"""A federation with hostile members and a hostile stranger among honest members, in real processes on loopback."""
