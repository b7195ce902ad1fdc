"""What secure aggregation of contributions would cost: a simulation, which is no part of the product."""
