import numpy as np
import pytest
from flwr.app import Context, RecordDict

from coldfusion_fl.clients.client_state import ClientState
from coldfusion_fl.training.node_state import contributor_folder


def head(value):
    return {"w": np.full((2, 3), value, np.float32), "scalar": np.array(value, np.float32)}


@pytest.fixture(params=["context", "folder"])
def open_state(request, tmp_path):
    """Opens the state of one node, as each message does."""
    context = Context(1, 2, {}, RecordDict(), {})
    folder = None if request.param == "context" else contributor_folder(tmp_path, "a/b ..")
    return lambda: ClientState(context, folder)


def test_a_node_keeps_one_secret(open_state):
    secret = open_state().secret()
    assert len(secret) == 32
    assert open_state().secret() == secret


def test_the_next_round_loads_what_a_round_saved(open_state):
    assert open_state().load("head", 1) == {}
    open_state().save("head", 1, head(1))
    open_state().save("compression-error", 1, head(5))
    assert open_state().load("head", 2)["w"].tolist() == head(1)["w"].tolist()
    assert open_state().load("head", 2)["scalar"] == 1
    assert open_state().load("compression-error", 9)["scalar"] == 5
    open_state().save("head", 4, head(4))
    assert open_state().load("head", 5)["scalar"] == 4


def test_a_repeated_round_does_not_load_its_own_state(open_state):
    open_state().save("head", 3, head(3))
    assert open_state().load("head", 3) == {}


def test_a_folder_keeps_two_rounds(tmp_path):
    state = ClientState(Context(1, 2, {}, RecordDict(), {}), contributor_folder(tmp_path, "a"))
    for number in (1, 2, 5):
        state.save("head", number, head(number))
    assert state.load("head", 5)["scalar"] == 2
    assert len(list((tmp_path / "a").iterdir())) == 2
    assert not state._state  # nothing in the memory of the machine that simulates


def test_a_name_cannot_be_a_path(tmp_path):
    assert contributor_folder(tmp_path, "../x").parent == tmp_path
    assert contributor_folder(tmp_path, "a/b") != contributor_folder(tmp_path, "a_b")


def test_a_token_is_the_same_for_a_run_and_tells_no_secret(open_state):
    token = open_state().token("1")
    assert open_state().token("1") == token
    assert open_state().token("2") != token
    assert open_state().secret().hex()[:32] != token
