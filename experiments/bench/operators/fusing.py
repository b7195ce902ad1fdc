"""How fast and in how much memory the server fuses: ratios between ways, measured in one run.

    python experiments/bench/operators/fusing.py [RESULT.json]

Speed: eight encoders of MiniLM's shapes (90 MB), in memory. The ways take turns; the fastest of several turns counts.
One way is copying all their bytes once (numpy, into arrays that are there): what has to be read at least.

Memory: the whole path of a round, from replies as they arrive to the next base's message, in a process of its own.
What is counted is its peak above what it held when the round's messages were out: base and all. The unit is one
encoder; a smaller one (14 MB), so that 128 of them are on disk soon. It is read from Linux' /proc.

The server's part of a contribution: each step in processor seconds, with contributions of 90 MB on disk.
"""

import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import Candidate, ScreeningRound
from coldfusion_fl.arrays.blocks import quick_update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.arrays.mismatch import find_other_layout
from coldfusion_fl.engines.flower_internals import TaskIdentity, aggregate_arrayrecords
from coldfusion_fl.fusion import OPERATORS, Contribution, Mean, fuse
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.array_records import move_to_record, to_array, to_numpy
from coldfusion_fl.strategies.rounds import privacy_accounting

TURNS = 7
COUNTS = (8, 32, 128)
SMALL = 96


def new_encoder(seed: int, width: int = 384) -> EncoderDict:
    """Random arrays of MiniLM's shapes, 22.7M float32, or of another width."""
    draw = np.random.default_rng(seed)
    layer_shapes = {"attention": (width, width), "intermediate": (4 * width, width), "output": (width, 4 * width)}
    shapes: dict[str, tuple[int, ...]] = {"embeddings": (30522, width), "positions": (512, width)}
    for layer in range(6):
        shapes |= {
            f"{layer}.{name}.{i}": shape
            for name, shape in layer_shapes.items()
            for i in range(4 if name == "attention" else 1)
        }
        shapes |= {f"{layer}.bias.{i}": (width,) for i in range(10)}
    return {name: draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def seconds(
    ways: Mapping[str, Callable[[], object]], turns: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The fastest of several turns of each way; they take turns, so that a slow moment hits all."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(turns):
        for name, way in ways.items():
            began = clock()
            way()
            best[name] = min(best[name], clock() - began)
    return best


def speed() -> dict[str, dict[str, float]]:
    """Eight encoders in memory, fused in every way."""
    base = new_encoder(0)
    draw = np.random.default_rng(1)
    encoders = [
        {name: array + np.float32(0.01) * draw.standard_normal(array.shape, np.float32) for name, array in base.items()}
        for _ in range(8)
    ]
    replies = [
        RecordDict(
            {
                "arrays": ArrayRecord({name: to_array(array) for name, array in encoder.items()}),
                "metrics": MetricRecord({"num-examples": 10}),
            }
        )
        for encoder in encoders
    ]
    diagonals = [{name: np.square(array) for name, array in encoder.items()} for encoder in encoders]
    room = [{name: np.empty_like(array) for name, array in base.items()} for _ in encoders]

    def copy() -> None:
        for place, encoder in zip(room, encoders, strict=True):
            for name, array in encoder.items():
                np.copyto(place[name], array)

    def ours(fusion: str) -> EncoderDict:
        operator = Pipeline.parse("", fusion, "plain").fusion
        parts = [
            Contribution(str(i), to_numpy(reply.array_records["arrays"]), metrics={"num-examples": 10}, fisher=diagonal)
            for i, (reply, diagonal) in enumerate(zip(replies, diagonals, strict=True))
        ]
        return fuse(operator, base, parts)

    ways: dict[str, Callable[[], object]] = {
        "copy": copy,
        "Flower: messages to message": lambda: aggregate_arrayrecords(replies, "num-examples"),
    }
    ways["mean: messages to message"] = lambda: move_to_record(ours("mean"))
    ways |= {name: partial(ours, name) for name in OPERATORS}
    found = seconds(ways, TURNS)
    used = seconds(ways, TURNS, time.process_time)
    return {
        name: {
            "seconds": found[name],
            "times-the-copy": found[name] / found["copy"],
            "times-faster-than-flower": found["Flower: messages to message"] / found[name],
            "processor-times-the-copy": used[name] / used["copy"],
        }
        for name in ways
    }


def contribution() -> dict[str, float]:
    """The processor seconds of each step of the server for one contribution."""
    base, count = new_encoder(0), 8
    draw = np.random.default_rng(1)
    encoders = [
        {name: array + np.float32(0.01) * draw.standard_normal(array.shape, np.float32) for name, array in base.items()}
        for _ in range(count)
    ]
    one, room = encoders[0], {name: np.empty_like(array) for name, array in base.items()}

    def copy() -> None:
        for name, array in one.items():
            np.copyto(room[name], array)

    def write() -> None:
        with closing(ArrayFile()) as array_file:
            for encoder in encoders:
                array_file.put(encoder)

    with closing(ArrayFile()) as array_file:
        parts = [Contribution(str(i), array_file.put(encoder)) for i, encoder in enumerate(encoders)]
        candidates = {part.name: Candidate(part, quick_update_norm(base, part.encoder)) for part in parts}
        steps: dict[str, tuple[Callable[[], object], int]] = {
            "copy": (copy, 1),
            "layout": (lambda: find_other_layout(base, one), 1),
            "norm, and whether all values are finite": (lambda: quick_update_norm(base, one), 1),
            "hash": (lambda: encoder_hash(one), 1),
            "to disk": (write, count),
            "cosine": (lambda: ScreeningRound(base, candidates, Mean()).cosines, count),
            "part of the mean": (lambda: fuse(Mean(), base, parts), count),
        }
        used = seconds({name: step for name, (step, _) in steps.items()}, TURNS, time.process_time)
    found = {name: used[name] / per for name, (_, per) in steps.items()}
    return found | {"all": sum(found.values()) - found["copy"]}


class Nodes:
    """A grid whose nodes send their names and nothing else."""

    pull_interval = 0.0

    def __init__(self, count: int) -> None:
        self.count = count
        self._questions: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        """All nodes."""
        return list(range(1, self.count + 1))

    def push_messages(self, messages: list[Message]) -> list[str]:
        """Take messages."""
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"{message.metadata.message_type}-{message.metadata.dst_node_id}"
            self._questions[message.metadata.message_id] = message
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: list[str]) -> list[Message]:
        """Each node's name."""
        asked = [self._questions.pop(message_id) for message_id in message_ids]
        return [
            Message(
                RecordDict({"config": ConfigRecord({"name": f"c{message.metadata.dst_node_id:03d}"})}),
                reply_to=message,
            )
            for message in asked
        ]


def highest() -> int:
    """The most bytes that this process has held."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def peak(fusion: str, count: int) -> dict[str, float]:
    """One round in this process, with n replies that are created one at a time."""
    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)
    base = new_encoder(0, SMALL)
    size = sum(array.nbytes for array in base.values())
    needs_fisher = OPERATORS[fusion].needs_fisher
    strategy = ColDFusion(contributors_per_round=count, min_available_nodes=count, fusion=fusion)
    grid = cast(Grid, Nodes(count))  # it has only the methods that the strategy calls
    messages = list(strategy.configure_train(1, move_to_record(base), ConfigRecord(), grid))
    grid.push_messages(messages)

    def replies() -> Iterator[Message]:
        for number, message in enumerate(messages):
            sent = message.content.array_records["arrays"]
            record = ArrayRecord(
                {name: to_array(array.numpy() * np.float32(1 + 1e-4 * number)) for name, array in sent.items()}
            )
            metrics = MetricRecord({"loss": 0.0, "num-examples": 10})
            content = RecordDict({"arrays": record, "metrics": metrics})
            if needs_fisher:
                content["fisher"] = _squared(record)
            yield Message(content, reply_to=message)
            del record, content

    if account := privacy_accounting(strategy.pipeline.fusion):
        account([], ["c001"])  # its library takes 65 MB, however large the encoders are
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held now
    before = highest()
    began = time.perf_counter()
    fused, _ = strategy.aggregate_train(1, replies())
    assert fused is not None
    return {
        "contributions": count,
        "peak-above-base-in-encoders": (highest() - before) / size,
        "encoder-megabytes": size / 1e6,
        "seconds": time.perf_counter() - began,
    }


def _squared(record: ArrayRecord) -> ArrayRecord:
    """Something that can be a Fisher diagonal."""
    return ArrayRecord({name: to_array(np.square(array.numpy())) for name, array in record.items()})


def memory() -> list[dict[str, Any]]:
    """The peak of each fusion and number of contributions, each in a process of its own."""
    found = []
    for fusion, count in itertools.product(OPERATORS, COUNTS):
        words = [sys.executable, __file__, "--peak", fusion, str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found.append({"fusion": fusion, **json.loads(done.stdout.splitlines()[-1])})
    return found


def main() -> None:
    """Measure, print, and write where a path is given."""
    if sys.argv[1:2] == ["--peak"]:
        print(json.dumps(peak(sys.argv[2], int(sys.argv[3]))))
        return
    fastest, steps, peaks = speed(), contribution(), memory()
    found = {
        "speed": fastest,
        "contribution-processor-seconds": steps,
        "memory": peaks,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in ("numpy", "flwr")},
    }
    for name, row in fastest.items():
        print(
            f"{name:30} {row['seconds']:7.3f} s  {row['times-the-copy']:6.2f} × the copy  "
            f"{row['times-faster-than-flower']:6.2f} × as fast as Flower, "
            f"{row['processor-times-the-copy']:6.2f} × the copy's processor time"
        )
    for name, used in steps.items():
        print(f"{name:40} {used:.4f} s of the processor for a contribution of 90 MB")
    for row in peaks:
        print(
            f"{row['fusion']:16} of {row['contributions']:4} contributions: a peak of "
            f"{row['peak-above-base-in-encoders']:.2f} encoders above the base, {row['seconds']:.1f} s"
        )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
