"""Contributions on disk are fused like those in memory, bit by bit."""

import numpy as np
import pytest

from coldfusion_fl.arrays.blocks import BLOCK
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.fusion import OPERATORS, Contribution, fuse

SHAPES = {"large": (3, BLOCK // 2 + 7), "row": (5,), "number": (), "layer.running_var": (4,)}


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"fisher", "private-mean"}))
def test_disk_and_memory_give_the_same(name):
    draw = np.random.default_rng(0)
    encoders = [
        {key: np.asarray(draw.random(shape), np.float32) + np.float32(1) for key, shape in SHAPES.items()}
        for _ in range(4)
    ]
    base, *others = encoders
    array_file = ArrayFile()
    results = [
        fuse(
            OPERATORS[name](),
            base,
            [Contribution(str(i), place(encoder), metrics={"num-examples": i + 1}) for i, encoder in enumerate(others)],
        )
        for place in (dict, array_file.put)
    ]
    array_file.close()
    for key in SHAPES:
        assert results[0][key].tobytes() == results[1][key].tobytes()
        assert results[0][key].shape == base[key].shape
