"""The rule `size`."""

from screening_rounds import round_of

from coldfusion_fl.aggregation.rules import Size


def test_too_large_too_small_and_nothing_at_all():
    updates = {"a": [1, 0, 0, 0], "b": [0, 1.2, 0, 0], "c": [0, 0, 0.9, 0], "big": [0, 0, 0, 1000]}
    rejected = Size()(round_of({**updates, "tiny": [1e-3, 0, 0, 0], "same": [0, 0, 0, 0]})).rejected
    assert rejected.keys() == {"big", "tiny", "same"}
    assert "too large: 1.05e+03 times the round's median (a norm of 1e+03 against 0.95)" in rejected["big"]
    assert "suspiciously small: 0.00105 times the round's median" in rejected["tiny"]
    assert rejected["same"] == "it sent the base back unchanged"


def test_two_cannot_be_told_apart_but_a_past_can():
    two = {"a": [1, 0, 0, 0], "b": [0, 100, 0, 0]}
    assert not Size()(round_of(two)).rejected
    rejected = Size()(round_of(two, past={"b": [1.0, 1.1, 0.9], "a": [1.0, 1.0]})).rejected
    assert rejected.keys() == {"b"}
    assert "100 times the median of its own past" in rejected["b"]
