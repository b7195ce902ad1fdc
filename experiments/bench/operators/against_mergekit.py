"""Our operators against mergekit's, on the same arrays.

mergekit's pins do not fit ours, so it gets an environment of its own, and this repository's core (which needs numpy
alone) on its path::

    python -m venv mergekit && mergekit/bin/pip install torch==2.13.0 mergekit==0.1.5
    PYTHONPATH=. mergekit/bin/python experiments/bench/operators/against_mergekit.py MODEL.safetensors > RESULT.json

The contributions are MODEL's own tensors with noise of a tenth of each tensor's spread. Printed per operator: the
largest difference of any element, in units of the largest magnitude of its tensor. Two things are set aside: mergekit's
Karcher mean adds up in the arrays' own precision, so it gets float64; and where several elements of an update share the
magnitude at which TIES trims, which of them to keep is anyone's choice, so these places are counted and not compared.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from mergekit.merge_methods import registry
from mergekit.merge_methods.base import TensorGroup
from safetensors.numpy import load_file

from coldfusion_fl.fusion import Contribution, Karcher, Mean, TaskArithmetic, Ties, WeightedMean
from coldfusion_fl.fusion.contribution import Operator
from coldfusion_fl.fusion.sparse import trim_threshold

COUNT = 4
WEIGHTS = [1.0, 2.0, 0.5, 1.5]

# Our operator, mergekit's method, its parameters, and whether the base is one of its inputs.
PEERS: list[tuple[Operator, str, dict[str, Any], bool]] = [
    (Mean(), "linear", {"weight": 1.0}, False),
    (WeightedMean(), "linear", {"weight": WEIGHTS}, False),
    (TaskArithmetic(scale=0.3), "task_arithmetic", {"weight": 1.0, "lambda": 0.3}, True),
    (Ties(density=0.2, scale=1.0), "ties", {"weight": 1.0, "density": 0.2}, True),
    (Karcher(iterations=10, tolerance=1e-5), "karcher", {}, False),
]


def merged(
    method: str, parameters: Mapping[str, Any], arrays: Sequence[np.ndarray], base: np.ndarray | None
) -> np.ndarray:
    """One tensor, merged by mergekit; the base comes first where it is an input."""
    tensors = [torch.from_numpy(array) for array in [*([] if base is None else [base]), *arrays]]
    group = TensorGroup.from_tensors(tensors, base_index=None if base is None else 0)
    return registry.get(method)([group], parameters=parameters)[0].numpy()


def edges(arrays: Sequence[np.ndarray], base: np.ndarray, density: float) -> np.ndarray:
    """The places where some update has the very magnitude at which it is trimmed, and others of it have it too."""
    found = np.zeros(base.shape, bool)
    for array in arrays:
        threshold = trim_threshold({"": array}, "", base.reshape(-1), density)
        same = np.abs(array - base) == threshold
        if np.count_nonzero(same) > 1:
            found |= same
    return found


def main() -> None:
    """Compare, and print what was found as JSON."""
    base = {name: array for name, array in load_file(sys.argv[1]).items() if array.dtype == np.float32}
    rng = np.random.default_rng(0)
    parts = []
    for number in range(COUNT):
        encoder = {
            name: array + np.float32(0.1 * array.std()) * rng.standard_normal(array.shape, np.float32)
            for name, array in base.items()
        }
        parts.append(Contribution(f"c{number}", encoder, metrics={"num-examples": WEIGHTS[number]}))
    found = {}
    for operator, method, parameters, from_base in PEERS:
        worst, aside = 0.0, 0
        dtype = np.float64 if method == "karcher" else np.float32
        for name, start in base.items():
            one = {name: start.astype(dtype)}
            few = [replace(part, encoder={name: part.encoder[name].astype(dtype)}) for part in parts]
            arrays = [part.encoder[name] for part in few]
            theirs = merged(method, parameters, arrays, one[name] if from_base else None)
            difference = np.abs(operator(one, few)[name] - theirs)
            if method == "ties":
                at_the_edge = edges(arrays, start, parameters["density"])
                difference[at_the_edge] = 0
                aside += int(np.count_nonzero(at_the_edge))
            worst = max(worst, float(difference.max() / max(np.abs(theirs).max(), 1e-30)))
        found[str(operator)] = {"largest-difference": worst, "places-set-aside": aside}
    versions = {name: metadata.version(name) for name in ("mergekit", "torch", "numpy")}
    print(
        json.dumps(
            {
                "operators": found,
                "places": sum(a.size for a in base.values()),
                "tensors": len(base),
                "versions": versions,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
