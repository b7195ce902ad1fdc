"""Which of the hostile members' replies the gate of the server rejects, and which ones the strategy has to reject."""

import numpy as np
import pytest
from acme import wait_for
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.proto.fleet_pb2 import PushMessagesResponse
from superlink_app import content, running_app

from coldfusion_fl.config.message_keys import ROUND, UNREADABLE_REPLY
from coldfusion_fl.experiments.bench.hostile.members import KINDS, send_reply


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running_app(tmp_path_factory.mktemp("superlink")) as made:
        yield made


@pytest.fixture
def asked(app):
    """A message to a member, with a base of five arrays."""
    app.begin()
    arrays = ArrayRecord({name: Array(np.full(100, number, np.float32)) for number, name in enumerate("vwxyz")})
    return app.send("a", content(arrays=arrays, config=ConfigRecord({ROUND: 1})))


def answer(app, kind, asked):
    """Have a member of this kind answer a message."""

    def announce(reply, tree, runtime):
        response = app.announce("a", reply, tree)
        assert response.status_code == 200, response.text
        announced = PushMessagesResponse.FromString(response.content)
        return announced.objects_to_push, announced.session_id

    def push(session, object_id, part):
        assert app.push("a", session, object_id, part).status_code == 200

    KINDS[kind](asked, lambda reply, **how: send_reply(reply, announce, push, **how))


@pytest.mark.parametrize("kind", ["no-array", "no-children", "inflating", "too-large"])
def test_what_the_gate_rejects(app, asked, kind):
    with pytest.raises(AssertionError, match="403"):
        answer(app, kind, asked)
    [error] = app.replies(asked)
    assert error.error.code == UNREADABLE_REPLY


@pytest.mark.parametrize("kind", ["mute", "announcing"])
def test_what_never_arrives(app, asked, kind):
    answer(app, kind, asked)
    assert not app.replies(asked)


@pytest.mark.parametrize("kind", ["not-finite", "enormous", "boasting"])
def test_what_the_strategy_has_to_reject(app, asked, kind):
    answer(app, kind, asked)
    wait_for(lambda: app.state.num_message_res() == 1)
    [reply] = app.replies(asked)
    assert not reply.has_error()
