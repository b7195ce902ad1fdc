"""What members may do to each other and to the server, and what the server learns of them; in real processes."""

import contextlib
import json
import socket
import ssl
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from acme import hooked
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from safetensors.numpy import load_file
from superlink_app import PROTOBUF

from coldfusion_fl.config.message_keys import ROUND
from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.control import control_of
from coldfusion_fl.engines.deployment.federation import open_federation, split_address
from coldfusion_fl.engines.deployment.superlink.database import database_size
from coldfusion_fl.versions import format_versions

pytestmark = pytest.mark.slow


def test_a_wrong_contribution_is_rejected_by_name_and_the_run_continues(done):
    assert set(done.record(1).contributions) == {"a", "b", "c"}
    [rejected] = done.record(2).rejected
    assert rejected.name == "c"
    assert "cannot be read" in rejected.reason
    assert set(done.record(2).contributions) == {"a", "b"}


def test_a_contribution_of_many_times_the_base_is_rejected_by_name_and_not_stored(acme, done):
    assert set(done.record(3).contributions) == {"a", "b"}
    [rejected] = done.record(3).rejected
    assert rejected.name == "c"
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert "Rejected a reply of member 'c'" in log
    assert "Nothing of it is stored" in log
    assert database_size(open_federation(acme.folder).database) < 60_000_000


def test_a_reply_that_flower_cannot_read_is_rejected_by_name_and_the_run_continues(done):
    [rejected] = done.record(4).rejected
    assert (rejected.name, rejected.counts_toward_exclusion) == ("c", True)
    assert "a part cannot be read" in rejected.reason
    assert set(done.record(4).contributions) == {"a", "b"}
    assert done.record(4).fused
    assert set(done.record(5).contributions) == {"a", "b", "c"}


def test_a_member_with_another_version_is_excluded_and_both_versions_are_named(acme, done):
    [reason] = {event.reason for event in done.events() if event.kind == "contributor-excluded"}
    assert reason.startswith("it has coldfusion-fl 0.0.1")
    assert f"this server has {format_versions()}" in reason
    assert "old is EXCLUDED" in (acme.home / "output").read_text()
    assert not any("old" in done.record(number).contributions for number in done.rounds()[1:])
    checked = acme.coldfusion("member", "check", acme.folder / "members" / "old", more=hooked("old"))
    assert checked.returncode == 2
    assert "0.0.1" in checked.stdout
    assert format_versions() in " ".join(checked.stdout.split())


@pytest.fixture(scope="module")
def received(acme, done):
    """Every byte that members sent."""
    return (acme.home / "received").read_bytes()


def test_the_recorded_traffic_is_complete(received):
    assert b"these bytes are no array" in received  # what is in an array
    assert len(received) > 20_000_000  # the largest of them
    assert ROUND.encode() in received  # what is in a MetricRecord


def test_no_head_leaves_a_member(acme, received):
    files = sorted(acme.folder.glob("members/*/flower/state/**/head-*.safetensors"))
    assert len(files) >= 2 * 3  # of two rounds and three members
    for file in files:
        for name, array in load_file(file).items():
            data = array.tobytes()
            pieces = {data[at : at + 16] for at in range(0, len(data) - 15, 16)}
            assert not any(piece in received for piece in pieces if np.frombuffer(piece, np.float32).all()), name


def test_no_frozen_embedding_leaves_a_member(done, received):
    embedding = done.load_base(2)["embeddings.word_embeddings.weight"]
    assert not any(row.tobytes() in received for row in embedding[1000::1000])


def test_no_row_leaves_a_member(toy_data, received):
    rows = [
        json.loads(line)["text"]
        for task in "abc"
        for split in ("train", "validation", "test")
        for line in (toy_data / task / f"{split}.jsonl").read_text().splitlines()
    ]
    assert len(rows) > 100
    assert not any(text.encode() in received for text in rows)


def test_no_path_leaves_a_member(acme, toy_data, tiny_base, received):
    for path in (acme.home, toy_data, tiny_base, Path.home(), Path(sys.prefix)):
        assert f"{path}/".encode() not in received


def as_member(acme, name):
    """A connection to the server with a member's key, and the ids of all nodes."""
    federation = open_federation(acme.folder)
    key = read_private_key(acme.folder / "members" / name / "member.key")
    client = FleetHttpClient.from_server_address(
        federation.address,
        insecure=False,
        root_certificates=str(federation.server / "ca.crt"),
        interceptors=[NodeAuthHttpInterceptor(key, key.public_key())],
    )
    with control_of(federation) as control:
        return client, {node.name: node.node_id for node in control.nodes()}


def test_a_member_does_not_receive_messages_to_another(acme, done):
    client, nodes = as_member(acme, "c")
    request = PullMessagesRequest()
    request.node.node_id = nodes["c"]
    assert not client.PullMessages(request).messages_list
    request.node.node_id = nodes["a"]
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        client.PullMessages(request)


def test_a_member_cannot_reply_for_another(acme, done):
    client, nodes = as_member(acme, "c")
    request = PushMessagesRequest()
    request.node.node_id = nodes["c"]
    request.messages_list.add().metadata.src_node_id = nodes["a"]
    request.message_object_trees.add()
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        client.PushMessages(request)
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert f"it names node {nodes['a']} as its sender, but node {nodes['c']} signed the request" in log


@pytest.mark.skipif(sys.platform != "linux", reason="there, Flower starts the processes for messages itself")
def test_other_users_of_a_members_machine_are_given_no_message(acme, done):
    secret = acme.folder / "members" / "a" / "flower" / "executor.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    words = acme.process("a", "member.supernode").cmdline()
    port = words[words.index("--port") + 1]
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/runtime/acquire-task", content=b"", headers=PROTOBUF)
    assert answer.status_code == 401, answer.text


def test_idle_connections_of_a_stranger_lock_no_member_out(acme, done):
    federation = open_federation(acme.folder)
    trust = ssl.create_default_context(cafile=federation.authority)
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            plain = idle.enter_context(socket.create_connection(split_address(federation.address), 30))
            with contextlib.suppress(OSError):
                idle.enter_context(trust.wrap_socket(plain, server_hostname=federation.host))
        client, nodes = as_member(acme, "c")  # by the Control interface
        request = PullMessagesRequest()
        request.node.node_id = nodes["c"]
        client.PullMessages(request)
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert "Too many connections" in log
