"""The validation of one reply."""

import gc
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
