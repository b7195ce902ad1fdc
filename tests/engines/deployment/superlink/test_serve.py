"""Who is admitted, with a server that is played."""

import contextlib
import json
import socket

import pytest

from coldfusion_fl.atomic_files import alone
from coldfusion_fl.engines.deployment import serve
from coldfusion_fl.engines.deployment.control import Node, RequestRejectedError, local_host
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.setup import add_member, new_federation, remove_member
from coldfusion_fl.errors import DeploymentError, RunFolderError


class PlayedControl:
    """Registers as Flower does: a key that was ever registered is not taken again."""

    def __init__(self):
        self.there, self.keys = {}, set()

    def nodes(self):
        return list(self.there.values())

    def register(self, name, key):
        if key in self.keys:
            raise RequestRejectedError("Public key already in use.")
        self.keys.add(key)
        node = Node(len(self.keys), name, key, False, "")
        self.there[node.node_id] = node
        return node.node_id

    def unregister(self, node_id):
        del self.there[node_id]


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A federation of alice and bob, its admission, and what that says."""
    federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", 9443)
    new_federation(federation, ["alice", "bob"])
    control, said = PlayedControl(), []
    monkeypatch.setattr(serve, "control_of", lambda federation: contextlib.nullcontext(control))
    monkeypatch.setattr(serve, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(serve, "_ASK_EVERY", 0.0)
    return federation, serve.Admission(federation, said.append), control, said


def members(federation):
    return set(json.loads(federation.members_file.read_text()))


def test_one_key_that_is_rejected_keeps_nobody_else_out(acme):
    federation, admission, _, said = acme
    federation.public_key("alias").write_bytes(federation.public_key("alice").read_bytes())
    add_member(federation, "zoe", None)
    for _ in range(3):
        admission.look()
    assert members(federation) == {"alias", "bob", "zoe"}  # the first by name has the key
    assert sum("'alice' cannot be let in: Public key already in use." in line for line in said) == 1


def test_who_comes_back_needs_a_new_key_and_is_told(acme):
    federation, admission, control, said = acme
    key = federation.public_key("bob").read_bytes()
    admission.look()
    remove_member(federation, "bob")
    admission.look()
    assert {node.name for node in control.nodes()} == {"alice"}
    federation.public_key("bob").write_bytes(key)
    admission.look()
    assert "A key that was shut out is not taken again" in said[-1]
    assert members(federation) == {"alice"}


def test_a_key_file_that_is_spoilt_shuts_nobody_out(acme):
    federation, admission, control, said = acme
    admission.look()
    key = federation.public_key("bob").read_bytes()
    federation.public_key("bob").write_bytes(key[:30])
    admission.look()
    assert any("'bob' cannot be let in" in line for line in said)
    assert {node.name for node in control.nodes()} == {"alice", "bob"}
    federation.public_key("bob").write_bytes(key)
    admission.look()
    assert members(federation) == {"alice", "bob"}


def test_a_key_is_one_members(acme, tmp_path):
    federation, *_ = acme
    with pytest.raises(DeploymentError, match="is the key of 'alice'"):
        add_member(federation, "alias", federation.public_key("alice"))
    assert "alias" not in federation.public_keys


def test_a_federation_is_served_once(acme):
    federation, *_ = acme
    with alone(federation.flower_home, "by another"), pytest.raises(RunFolderError, match="being served already"):
        serve.serve(federation, print)


def test_a_port_that_another_program_has_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        federation = Federation(tmp_path / "acme", "acme", "127.0.0.1", port)
        new_federation(federation, ["alice"])
        with pytest.raises(DeploymentError, match=f"nothing can listen at port {port}"):
            serve.serve(federation, print)


def test_where_the_server_listens_its_own_machine_asks(tmp_path):
    for host, asked in (("127.0.0.1", "127.0.0.1"), ("fl.acme.org", "127.0.0.1"), ("2001:db8::7", "::1")):
        federation = Federation(tmp_path / asked.replace(":", "_") / host, "acme", host, 9443)
        new_federation(federation, ["alice"])
        assert local_host(federation) == asked
