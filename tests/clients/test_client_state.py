import numpy as np
import pytest
from flwr.app import Context, RecordDict

from coldfusion_fl.clients.client_state import ClientState, contributor_folder


def head(value):
    return {"w": np.full((2, 3), value, np.float32), "scalar": np.array(value, np.float32)}


@pytest.fixture(params=["its own context", "the run folder"])
def again(request, tmp_path):
    """Makes the keepsakes of one node, as each message does."""
    context = Context(1, 2, {}, RecordDict(), {})
    folder = None if request.param == "its own context" else contributor_folder(tmp_path, "a/b ..")
    return lambda: ClientState(context, folder)


def test_what_a_round_leaves_the_next_one_finds(again):
    assert again().load("head", 1) == {}
    again().save("head", 1, head(1))
    again().save("compression-error", 1, head(5))
    assert again().load("head", 2)["w"].tolist() == head(1)["w"].tolist()
    assert again().load("head", 2)["scalar"] == 1
    assert again().load("compression-error", 9)["scalar"] == 5
    again().save("head", 4, head(4))
    assert again().load("head", 5)["scalar"] == 4


def test_a_round_that_is_done_again_does_not_begin_with_what_it_left(again):
    again().save("head", 3, head(3))
    assert again().load("head", 3) == {}


def test_in_a_run_folder_the_round_before_is_still_there(tmp_path):
    kept = ClientState(Context(1, 2, {}, RecordDict(), {}), contributor_folder(tmp_path, "a"))
    for number in (1, 2, 5):
        kept.save("head", number, head(number))
    assert kept.load("head", 5)["scalar"] == 2
    assert len(list((tmp_path / "a").iterdir())) == 2
    assert not kept._state  # no memory of the machine that simulates


def test_a_name_is_no_path(tmp_path):
    assert contributor_folder(tmp_path, "../x").parent == tmp_path
    assert contributor_folder(tmp_path, "a/b") != contributor_folder(tmp_path, "a_b")
