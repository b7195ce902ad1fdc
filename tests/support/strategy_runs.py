"""Runs of the strategy over nodes that are functions in this process."""

import numpy as np
from fake_grid import SHAPE, FakeGrid
from flwr.app import Array, ArrayRecord

from coldfusion_fl.strategies import ColDFusion


def zero_arrays():
    """The initial arrays of a run: one weight "w" of zeros."""
    return ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})


def run_strategy(nodes, rounds=1, ledger=None, timeout=0.5, order_seed=0, **settings):
    """The last base's weight, Flower's result and the grid of a run; the nodes get the ids 100, 101, ..."""
    names = {"contributor_names": "query"}
    settings = {"contributors_per_round": 4, "min_available_nodes": len(nodes), **names, **settings}
    strategy = ColDFusion(ledger=ledger, **settings)
    grid = FakeGrid(dict(enumerate(nodes, start=100)), order_seed)
    result = strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=timeout)
    return result.arrays["w"].numpy(), result, grid


def trained_nodes(grid):
    """The ids of the nodes that were asked to train."""
    return {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"}
