"""The server of a federation: Flower's SuperLink, for known members only."""
