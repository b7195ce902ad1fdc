"""How a run is executed: Flower's simulation on Ray, or a deployment of SuperLink and SuperNodes."""
