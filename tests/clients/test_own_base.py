"""The frozen arrays of a base: the server does not send them, and the node has them."""

import numpy as np
import pytest
from client_messages import ask, context
from flwr.app import ConfigRecord, Message, RecordDict
from tiny_models import make_base

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.training.node_state import BASE, NodeFiles, contributor_folder

EMBEDDING = "embeddings.word_embeddings.weight"
FROZEN = {"finetune.freeze": "embeddings"}


@pytest.fixture
def shared(encoder):
    return {name: array for name, array in encoder.items() if name != EMBEDDING}


@pytest.fixture
def settings(encoder):
    return {**FROZEN, "frozen-sha256": encoder_hash({EMBEDDING: encoder[EMBEDDING]})}


def arrays_in(reply):
    assert not reply.has_error(), reply.error.reason
    return {name: array.numpy() for name, array in reply.content["arrays"].items()}


def test_a_contribution_is_trained_with_the_nodes_own_embeddings_and_has_none(node, encoder, shared, settings):
    sent = arrays_in(ask("train", node, shared, **settings))
    assert sent.keys() == shared.keys()
    with_all = arrays_in(ask("train", node, encoder, **FROZEN))
    assert all(np.array_equal(sent[name], with_all[name]) for name in shared)
    assert with_all[EMBEDDING].tobytes() == encoder[EMBEDDING].tobytes()


@pytest.mark.parametrize("compression", ["bfloat16", "int8"])
def test_a_compressed_contribution_has_none_either(node, shared, settings, compression):
    reply = ask("train", node, shared, **settings, **{"coldfusion.compression": compression})
    assert arrays_in(reply).keys() == shared.keys()
    assert EMBEDDING not in node.state["compression-error"]


def test_a_fisher_diagonal_has_none_either(node, shared, settings):
    reply = ask("train", node, shared, **settings, **{"fisher-examples": 2})
    assert reply.content["fisher"].keys() == shared.keys()


def test_a_kept_head_is_the_head_alone(node, shared, settings):
    ask("train", node, shared, **settings, **{"finetune.keep-head": True})
    assert sorted(node.state["head"]) == ["head.bias", "head.weight"]


def test_a_score_is_that_of_the_complete_base_and_a_member_keeps_it(node, encoder, shared, settings, tmp_path):
    node_config = {**node.node_config, "state-dir": str(tmp_path / "kept")}
    config = {"run": "run-1", "coldfusion.modes": "frozen"}
    replies = [
        ask("evaluate", context(node_config), base, **config, **more)
        for base, more in ((shared, settings), (encoder, FROZEN))
    ]
    one, other = (reply.content["metrics"]["frozen"] for reply in replies)
    assert one == other
    ask("evaluate", context(node_config), shared, **config, **settings)
    kept = NodeFiles(contributor_folder(tmp_path / "kept", "run-1")).load(BASE)
    assert encoder_hash(kept) == encoder_hash(encoder)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_node_with_another_base_says_so(node, shared, settings, tmp_path, kind):
    other = make_base(tmp_path / "other", hidden_size=32, initializer_range=0.5)
    reply = ask(kind, context({**node.node_config, "base": str(other)}), shared, **settings)
    assert "the frozen weights of this node's base are not those of the run" in reply.error.reason
    assert str(tmp_path) not in reply.error.reason


def query(node_config, settings):
    content = RecordDict({"config": ConfigRecord(settings)} if settings else {})
    message = Message(content, dst_node_id=2, message_type="query")
    return contributor_app()(message, context(node_config)).content["config"]


def test_a_node_with_another_base_says_so_when_it_is_queried(node, settings, tmp_path):
    assert "problem" not in query(node.node_config, settings)
    other = {**node.node_config, "base": str(make_base(tmp_path / "other", initializer_range=0.5))}
    answer = query(other, settings)
    assert "the frozen weights of this node's base are not those of the run" in answer["problem"]
    assert answer["name"] == "b"
    assert "problem" not in query(other, {})  # its base is its own affair where all weights are sent
    missing = query({**node.node_config, "base": str(tmp_path / "none")}, settings)
    assert missing["problem"] == "ModelError: the details are in the contributor's own log"


def test_without_a_hash_a_base_that_lacks_arrays_is_rejected(node, shared):
    assert "lacks 1 weight" in ask("train", node, shared, **FROZEN).error.reason
