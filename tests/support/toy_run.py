"""A run for a process of its own that can be killed.

The real strategy and the real run folder, with nodes that train by numpy alone, so that a run takes seconds.
What a contributor sends depends on the base, the round and its name, as it does with the real one.
"""

import time
import zlib
from pathlib import Path

import numpy as np
from fake_grid import FakeGrid, set_task_identity
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.array_records import move_to_record

SIZES = {"embedding": (2000, 64), "layer.weight": (64, 64), "layer.bias": (64,)}


def contributor(name):
    """A node that pulls the base towards a place of its own, with noise by (round, name)."""
    own = np.random.default_rng(zlib.crc32(name.encode()))
    goal = {key: own.normal(size=shape).astype(np.float32) for key, shape in SIZES.items()}

    def answer(message):
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict({"config": ConfigRecord({"name": name})})
        base = {key: array.numpy() for key, array in message.content["arrays"].items()}
        if kind == "evaluate":
            away = float(np.mean([np.abs(base[key] - goal[key]).mean() for key in goal]))
            return RecordDict({"metrics": MetricRecord({"frozen": -away})})
        server_round = message.content["config"]["coldfusion.round"]
        noise = np.random.default_rng([server_round, zlib.crc32(name.encode())])
        time.sleep(0.01)
        sent = {
            key: base[key]
            + np.float32(0.1) * (goal[key] - base[key])
            + noise.normal(scale=0.01, size=shape).astype("f4")
            for key, shape in SIZES.items()
        }
        if name == "bad" and server_round % 2:
            sent["layer.bias"] = np.full(64, np.nan, np.float32)
        return RecordDict({"arrays": move_to_record(sent), "metrics": MetricRecord({"num-examples": 10})})

    return answer


def run(folder: Path, rounds: int):
    """Begin a run, or go on with it."""
    set_task_identity()
    settings = {"toy": True}
    there = (folder / "run.json").exists()
    ledger = (Ledger.resume if there else Ledger.create)(folder, settings)
    strategy = ColDFusion(
        contributor_names="query",
        contributors_per_round=3,
        min_available_nodes=5,
        seed=5,
        server_optimizer="nesterov(learning-rate=0.7, momentum=0.9)",
        ema=0.9,
        screening="size(factor=3)",
        max_rejections=2,
        ledger=ledger,
    )
    grid = FakeGrid({number: contributor(name) for number, name in enumerate(["a", "b", "c", "d", "bad"], start=100)})
    arrays = move_to_record({key: np.zeros(shape, np.float32) for key, shape in SIZES.items()})
    with ledger.lock():
        strategy.start(grid, arrays, num_rounds=rounds, timeout=30)
    ledger.state_file.finished()
