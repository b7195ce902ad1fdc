"""The validation of one reply."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from fake_grid import contribution
from flwr.app import Array, ArrayRecord, Message, RecordDict

from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.fusion import Fisher, Mean
from coldfusion_fl.strategies.rounds.validation import ReplyValidator


@pytest.mark.parametrize("operator", [Mean(), Fisher()])
def test_the_bytes_of_a_reply_are_freed_after_validation(operator, tmp_path):
    content = contribution(np.ones((2, 3), np.float32))
    content["fisher"] = ArrayRecord({"w": Array(np.full((2, 3), 0.5, np.float32))})
    reply = Message(content, reply_to=Message(RecordDict({}), dst_node_id=1, message_type="train"))
    arrays = weakref.ref(content["arrays"])
    validator = ReplyValidator(
        {"w": np.zeros((2, 3), np.float32)}, {}, operator, 1, ArrayFile(tmp_path), None, "arrays", "config"
    )
    gc.disable()  # in a reference cycle it would stay until Python looks for cycles
    try:
        candidate = validator.validate("a", reply)
        del reply, content
        assert arrays() is None
    finally:
        gc.enable()
    assert candidate.contribution.encoder["w"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert candidate.norm == pytest.approx(6**0.5)


def test_one_array_under_many_names_is_not_copied_for_each(tmp_path):
    base = {f"w{number}": np.zeros(10, np.float32) for number in range(200)}
    large = Array(np.zeros(200_000))  # float64, which is cast to the base's type where the shapes are equal
    reply = Message(
        RecordDict({"arrays": ArrayRecord(dict.fromkeys(base, large))}), dst_node_id=1, message_type="train"
    )
    validator = ReplyValidator(base, {}, Mean(), 1, ArrayFile(tmp_path), None, "arrays", "config")
    tracemalloc.start()
    rejected = validator.validate("a", reply)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rejected.counts_toward_exclusion
    assert peak < 10 * large.numpy().nbytes
