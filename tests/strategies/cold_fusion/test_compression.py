"""Contributions travel in fewer bytes."""

import numpy as np
import pytest
from fake_grid import contribution, node
from flwr.app import Array, ArrayRecord, ConfigRecord
from strategy_runs import run_strategy

from coldfusion_fl.aggregation.compression import encode
from coldfusion_fl.config.settings import COMPRESSIONS


def compressing_node(name, value, declare=None):
    """A node that sends the compression it is asked for, and declares it or another one."""

    def train(message):
        base = message.content["arrays"]["w"].numpy()
        compression = message.content["config"].get("coldfusion.compression", "float32")
        encoded, _ = encode({"w": base + np.float32(value)}, {"w": base}, compression)
        content = contribution(encoded.arrays["w"])
        content["scales"] = ArrayRecord({n: Array(a) for n, a in encoded.scales.items()})
        content["config"] = ConfigRecord({"coldfusion.compression": declare or compression})
        return content

    return node(name, train=train)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_nodes_are_asked_to_compress_and_plain_arrays_are_taken_too(compression, ledger):
    nodes = [compressing_node("a", 1), compressing_node("b", 2), node("plain", 6)]
    fused, _, grid = run_strategy(nodes, rounds=2, ledger=ledger, compression=compression)
    assert np.allclose(fused, 6, rtol=1e-5)
    asked = {m.content["config"].get("coldfusion.compression") for m in grid.sent if m.metadata.message_type == "train"}
    assert asked == {None if compression == "float32" else compression}
    assert ledger.record(1).settings.compression == compression
    assert ledger.record(1).contributions["a"].norm == pytest.approx(6**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        ("int4", "its compression 'int4' is unknown"),
        ("float16", "'w' is int8 of shape (2, 3), but float16 needs"),
    ],
)
def test_a_contribution_that_is_not_encoded_as_declared_is_rejected(declare, words, ledger):
    nodes = [compressing_node("a", 1), compressing_node("b", 1), compressing_node("bad", 9, declare)]
    fused, *_ = run_strategy(nodes, ledger=ledger, compression="int8")
    (rejection,) = ledger.record(1).rejected
    assert rejection.name == "bad"
    assert words in rejection.reason
    assert np.allclose(fused, 1)
