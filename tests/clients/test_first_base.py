"""What a node reports of a later base in comparison with the first one."""

import errno

import numpy as np
import pytest
from client_messages import FINETUNE, ask, context
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from coldfusion_fl.clients import handlers
from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.clients.client_state import ClientState

FROZEN = {"coldfusion.modes": "frozen"}
ERRORS = {"frozen-difference-error", "few-shot-difference-error"}


def reported_errors(node, encoder, server_round, **config):
    """The errors of the differences to the first base that a node reports in a round."""
    few = {
        "coldfusion.modes": "frozen,few-shot",
        "evaluate.shots": 12,
        "evaluate.few-shot-epochs": 1,
        "evaluate.few-shot-seeds": 2,
    }
    config = {**few, "coldfusion.round": server_round, **config}
    reply = ask("evaluate", node, encoder, **config)
    metrics = dict(reply.content["metrics"])
    assert metrics.keys() <= {"frozen", "few-shot", "num-examples"} | ERRORS  # one number a mode, nothing about rows
    assert all(isinstance(value, int | float) for value in metrics.values())
    return {mode: value for mode, value in metrics.items() if mode in ERRORS}


@pytest.mark.parametrize("where", ["context", "folder"])
def test_a_later_base_is_compared_with_the_first_one(node, encoder, tmp_path, where):
    node_config = node.node_config | ({"state-dir": str(tmp_path / "kept")} if where == "folder" else {})
    nodes = [node] * 3 if where == "context" else [context(node_config) for _ in range(3)]
    draw = np.random.default_rng(0)
    other = {name: draw.normal(scale=0.5, size=array.shape).astype(array.dtype) for name, array in encoder.items()}
    first, later, same = (
        reported_errors(one, base, number, run="r")
        for number, (one, base) in enumerate(zip(nodes, (encoder, other, encoder), strict=True))
    )
    assert first == {}
    assert later.keys() == ERRORS
    assert all(0 < error < 50 for error in later.values())
    assert same == dict.fromkeys(ERRORS, 0.0)


@pytest.mark.parametrize("changes", [{"finetune.head": "class-token"}, {"evaluate.test-examples": 20}])
def test_other_rows_or_another_head_cannot_be_compared_with_the_first_base(node, encoder, changes):
    reported_errors(node, encoder, 0)
    assert reported_errors(node, encoder, 1, **changes) == {}


def test_a_node_without_the_predictions_of_the_first_base_reports_no_error(node, encoder):
    reported_errors(node, encoder, 0, **FROZEN)
    assert reported_errors(node, encoder, 1).keys() == {"frozen-difference-error"}
    assert reported_errors(context(node.node_config), encoder, 1) == {}


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(handlers, "log", lambda level, text, *values: found.append(text % values))
    return found


def test_a_node_whose_disk_is_full_evaluates_all_the_same(node, encoder, monkeypatch, warnings):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ClientState, "save", full)
    assert reported_errors(node, encoder, 0, **FROZEN) == {}
    assert reported_errors(node, encoder, 1, **FROZEN) == {}
    assert len(warnings) == 1
    assert "saved: [Errno 28] No space left on device" in warnings[0]


def test_damaged_predictions_are_no_predictions(node, encoder, tmp_path, warnings):
    with_folder = context(node.node_config | {"state-dir": str(tmp_path / "kept")})
    reported_errors(with_folder, encoder, 0, **FROZEN, run="r")
    (file,) = tmp_path.rglob("first-base-frozen-000.safetensors")
    file.write_bytes(b"damaged")
    assert reported_errors(with_folder, encoder, 1, **FROZEN, run="r") == {}
    assert len(warnings) == 1
    assert "cannot be read" in warnings[0]


def test_a_server_that_does_not_name_the_round_gets_no_error(node, encoder):
    arrays = ArrayRecord({name: Array(array) for name, array in encoder.items()})
    message = RecordDict(
        {"arrays": arrays, "config": ConfigRecord({**FINETUNE, "coldfusion.seed": 1, "coldfusion.modes": "frozen"})}
    )
    reply = contributor_app()(Message(message, dst_node_id=2, message_type="evaluate"), node)
    assert reply.content["metrics"].keys() == {"frozen", "num-examples"}
