"""What packing a contribution costs and saves: bytes, time, and the score of the fused base.

    python -m coldfusion_fl.experiments.bench.compression FOLDER [RESULT.json]

Bytes and time: an encoder of MiniLM's shapes and an update of the size of a real one; the ways take turns, the fastest
of several turns counts, and one way is copying the encoder once. Scores: the eight packaged tasks of compression.toml,
four rounds, once with each way to travel; the same seeds, so that only rounding differs. A run that is
in FOLDER already goes on.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from coldfusion_fl.aggregation.compression import EncodedContribution, decode, encode
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.settings import COMPRESSIONS, Settings
from coldfusion_fl.experiments.federation import federate
from coldfusion_fl.runs.report import summarize

from .operators.fusing import TURNS, new_encoder, seconds
from .table import Row


def packing() -> dict[str, dict[str, float]]:
    """Bytes of each way to travel against float32's, and the time to encode and to decode against a copy."""
    base = new_encoder(0)
    draw = np.random.default_rng(1)
    encoder = {name: a + np.float32(1e-3) * draw.standard_normal(a.shape, np.float32) for name, a in base.items()}
    room = {name: np.empty_like(array) for name, array in base.items()}
    encoded = {compression: encode(encoder, base, compression)[0] for compression in COMPRESSIONS}

    def copy() -> None:
        for name, array in encoder.items():
            np.copyto(room[name], array)

    ways: dict[str, Callable[[], object]] = {"copy": copy}
    for compression in COMPRESSIONS[1:]:
        ways[f"encode {compression}"] = partial(encode, encoder, base, compression)
        ways[f"decode {compression}"] = partial(decode, encoded[compression], base)
    found = seconds(ways, TURNS)
    whole = size(encoded["float32"])
    return {
        compression: {
            "bytes-of-float32": size(encoded[compression]) / whole,
            "encode-times-a-copy": found.get(f"encode {compression}", 0) / found["copy"],
            "decode-times-a-copy": found.get(f"decode {compression}", 0) / found["copy"],
            "encode-seconds": found.get(f"encode {compression}", 0),
            "decode-seconds": found.get(f"decode {compression}", 0),
        }
        for compression in COMPRESSIONS
    }


def encoded() -> tuple[list[Row], Any]:
    """The bytes of the ways to travel, for the table."""
    found = packing()
    goals = {"bfloat16": "<= 0.5", "int8": "<= 0.27"}
    rows = [
        Row(
            f"a contribution as {compression}",
            "float32",
            [found[compression]["bytes-of-float32"]],
            goal,
            "times the bytes",
        )
        for compression, goal in goals.items()
    ]
    return rows, found


def size(encoded: EncodedContribution) -> int:
    """Bytes of the arrays that travel."""
    return sum(array.nbytes for array in [*encoded.arrays.values(), *encoded.scales.values()])


def scores(settings: Settings, folder: Path) -> dict[str, float]:
    """The fused base's frozen score by task, of a whole run or the rest of one."""
    ledger = federate(settings, folder, {}, print)
    return {row["task"]: row["frozen-fused"] for row in summarize(ledger)["tasks"]}


def main() -> None:
    """Measure, print, and write where a path is given."""
    folder = Path(sys.argv[1]).resolve()
    found: dict[str, dict[str, Any]] = {compression: {**row} for compression, row in packing().items()}
    with resources.as_file(resources.files("coldfusion_fl.experiments.bench") / "compression.toml") as file:
        settings = read_settings(file)
    for compression, row in found.items():
        server = settings.server.model_copy(update={"compression": compression})
        made = scores(settings.model_copy(update={"server": server}), folder / compression)
        row["scores"] = made
        row["mean-score"] = sum(made.values()) / len(made)
        row["points-over-float32"] = row["mean-score"] - found["float32"]["mean-score"]
        print(
            f"{compression:9} {row['bytes-of-float32']:.3f} of the bytes, encode {row['encode-times-a-copy']:.1f}, "
            f"decode {row['decode-times-a-copy']:.1f} times a copy, mean frozen score {row['mean-score']:.2f} "
            f"({row['points-over-float32']:+.2f})",
            flush=True,
        )
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
