"""Admitting and removing members, with a fake of the server's Control interface."""

import contextlib
import json
import socket

import pytest

from coldfusion_fl.atomic_files import exclusive_lock
from coldfusion_fl.engines.deployment.control import Node, RequestRejectedError, local_host
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.setup import add_member, new_federation, remove_member
from coldfusion_fl.engines.deployment.superlink import serve
from coldfusion_fl.errors import DeploymentError, ErrorCode, RunFolderError


class FakeControl:
    """Registers nodes as Flower does: a key that was registered once is never accepted again."""

    def __init__(self):
        self.there, self.keys = {}, set()

    def nodes(self):
        return list(self.there.values())

    def register(self, name, key):
        if key in self.keys:
            raise RequestRejectedError("Public key already in use.")
        self.keys.add(key)
        node = Node(len(self.keys), name, key, False, None)
        self.there[node.node_id] = node
        return node.node_id

    def unregister(self, node_id):
        del self.there[node_id]


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A federation of alice and bob, its admission, the fake, and the lines that are logged."""
    federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", 9443)
    new_federation(federation, ["alice", "bob"])
    control, lines = FakeControl(), []
    monkeypatch.setattr(serve, "control_of", lambda federation: contextlib.nullcontext(control))
    monkeypatch.setattr(serve, "_KEYS_INTERVAL", 0.0)
    monkeypatch.setattr(serve, "_NODES_INTERVAL", 0.0)
    return federation, serve.Admission(federation, lines.append), control, lines


def members(federation):
    return set(json.loads(federation.members_file.read_text()))


def test_a_rejected_key_does_not_keep_other_members_out(acme):
    federation, admission, _, lines = acme
    federation.public_key("alias").write_bytes(federation.public_key("alice").read_bytes())
    add_member(federation, "zoe", None)
    for _ in range(3):
        admission.update()
    assert members(federation) == {"alias", "bob", "zoe"}  # the first by name has the key
    assert sum("'alice' cannot be admitted: Public key already in use." in line for line in lines) == 1


def test_a_member_that_returns_needs_a_new_key(acme):
    federation, admission, control, lines = acme
    key = federation.public_key("bob").read_bytes()
    admission.update()
    remove_member(federation, "bob")
    admission.update()
    assert {node.name for node in control.nodes()} == {"alice"}
    federation.public_key("bob").write_bytes(key)
    admission.update()
    assert "A key that was removed cannot be used again" in lines[-1]
    assert members(federation) == {"alice"}


def test_an_unreadable_key_file_unregisters_no_member(acme):
    federation, admission, control, lines = acme
    admission.update()
    key = federation.public_key("bob").read_bytes()
    federation.public_key("bob").write_bytes(key[:30])
    admission.update()
    assert any("'bob' cannot be admitted" in line for line in lines)
    assert {node.name for node in control.nodes()} == {"alice", "bob"}
    federation.public_key("bob").write_bytes(key)
    admission.update()
    assert members(federation) == {"alice", "bob"}


def test_two_members_cannot_have_the_same_key(acme, tmp_path):
    federation, *_ = acme
    with pytest.raises(DeploymentError, match="is the key of 'alice'"):
        add_member(federation, "alias", federation.public_key("alice"))
    assert "alias" not in federation.public_keys


def test_only_one_process_runs_a_federations_server(acme):
    federation, *_ = acme
    with exclusive_lock(federation.flower_home, "taken"), pytest.raises(RunFolderError) as error:
        serve.serve(federation, print)
    assert error.value.code == ErrorCode.RUN_LOCKED


def test_a_port_in_use_is_an_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", port)
        new_federation(federation, ["alice"])
        with pytest.raises(DeploymentError, match=str(port)) as error:
            serve.serve(federation, print)
    assert error.value.code == ErrorCode.PORT_IN_USE


def test_the_local_host_is_one_that_the_server_listens_on(tmp_path):
    for host, asked in (("127.0.0.1", "127.0.0.1"), ("fl.acme.org", "127.0.0.1"), ("2001:db8::7", "::1")):
        federation = Federation(tmp_path / asked.replace(":", "_") / host, "acme", host, 9443)
        new_federation(federation, ["alice"])
        assert local_host(federation) == asked


def test_a_servers_key_that_all_users_can_read_is_rejected(acme):
    federation, *_ = acme
    (federation.server / "server.key").chmod(0o644)
    with pytest.raises(DeploymentError, match="chmod 600") as error:
        serve.serve(federation, print)
    assert error.value.code == ErrorCode.KEY_EXPOSED
