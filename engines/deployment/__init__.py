"""A federation over a network: Flower's SuperLink and SuperNodes, with TLS and known members only."""
