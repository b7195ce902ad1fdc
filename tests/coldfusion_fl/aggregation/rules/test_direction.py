"""The rule `direction`."""

import numpy as np
import pytest
from screening_rounds import round_of

from coldfusion_fl.aggregation.rules import Direction
from coldfusion_fl.aggregation.screening import Candidate, ScreeningRound
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.fusion import Contribution, Mean


def test_a_turned_update_points_away():
    honest = {"a": [1, 0.2, 0, 0], "b": [0.9, 0, 0.3, 0], "c": [1, 0, 0, 0.1]}
    round_ = round_of({**honest, "turned": [-1, 0, -0.2, 0]})
    rejected = Direction()(round_).rejected
    assert rejected.keys() == {"turned"}
    assert "a cosine of -0.9" in rejected["turned"]
    assert not Direction()(round_of(honest)).rejected
    assert not Direction()(round_of({"a": [1, 0, 0, 0], "b": [-1, 0, 0, 0]})).rejected


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 3.4e38), (np.float32, 1e-30), (np.float64, 1e150)])
def test_no_size_hides_a_direction(dtype, size):
    base = {"w": np.zeros((2, 2), dtype)}
    honest = {"a": [1, 0.2, 0, 0], "b": [0.9, 0, 0.3, 0], "c": [1, 0, 0, 0.1], "d": [1, 0, 0.1, 0]}
    encoders = {name: {"w": np.array(update, dtype).reshape(2, 2)} for name, update in honest.items()}
    encoders["turned"] = {"w": np.full((2, 2), -size, dtype)}
    candidates = {n: Candidate(Contribution(n, encoder), update_norm(base, encoder)) for n, encoder in encoders.items()}
    round_ = ScreeningRound(base, candidates, Mean())
    assert all(np.isfinite(cosine) for cosine in round_.cosines.values())
    assert Direction()(round_).rejected.keys() == {"turned"}
