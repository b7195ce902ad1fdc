"""Only some of the arrays are shared."""

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import Array, ArrayRecord

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.strategies import ColDFusion


def test_arrays_that_are_not_shared_are_neither_sent_nor_fused(caplog):
    """They are in the result as they were, and memory holds them once."""
    got = []

    def everything(message):
        got.append(set(message.content["arrays"]))
        return contribution(message.content["arrays"]["w"].numpy() + np.float32(1), head=np.ones(3))

    strategy = ColDFusion(contributor_names="query", shared_keys="w, body.*", min_available_nodes=2)
    nodes = {100: node("a", train=everything), 101: node("b", train=everything)}
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32)), "head": Array(np.zeros(5))})
    result = strategy.start(FakeGrid(nodes), arrays, num_rounds=2, timeout=5)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert list(result.arrays) == ["w", "head"]
    assert result.arrays["head"].data is arrays["head"].data
    assert np.shares_memory(strategy.state.constants["head"], np.frombuffer(arrays["head"].data, np.uint8))
    assert not strategy.result["head"].any()
    assert all(names == {"w"} for names in got)
    warnings = [record for record in caplog.records if "not shared" in record.message]
    assert len(warnings) == 1
    with pytest.raises(SettingsError, match="matches none of the 2 arrays, such as w, head"):
        ColDFusion(contributor_names="query", shared_keys=lambda name: False, min_available_nodes=2).start(
            FakeGrid(nodes), arrays
        )
