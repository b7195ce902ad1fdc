"""What members may do to each other and to the server, and what the server learns of them; in real processes."""

import json
import os
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from acme import Acme, fill_in, wait_for
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from safetensors.numpy import load_file

from coldfusion_fl.engines.deployment.certificates import read_private_key
from coldfusion_fl.engines.deployment.control import control_of
from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.versions import format_versions

pytestmark = pytest.mark.slow
HOOKS = Path(__file__).parents[2] / "support" / "hooks"
MEMBERS = ("a", "b", "c", "old")
# Round by round what the third one sends, and why that is rejected.
SPOILT = ["not finite", "shape", "shape", "cannot be read", "round"]
RUN = {
    "rounds": str(len(SPOILT)),
    "contributors-per-round": "3",
    "evaluate.every": "-1",
    "finetune.keep-head": "true",
    "server.max-rejections": "0",
}


def hooked(what):
    return {"PYTHONPATH": os.pathsep.join([str(HOOKS), os.environ.get("PYTHONPATH", "")]), "COLDFUSION_HOOK": what}


@pytest.fixture(scope="module")
def acme(tmp_path_factory, toy_data, tiny_base):
    """A server that records what it receives, two honest members, one that is not, and one of another version."""
    made = Acme(tmp_path_factory.mktemp("federation"))
    made.init(MEMBERS, toy_data, tiny_base)
    fill_in(made.folder / "members" / "old", "d", toy_data, tiny_base)
    made.serve(hooked(f"record={made.home / 'received'}"))
    for name, hook in zip(MEMBERS, ("", "", "spoil", "old"), strict=True):
        made.join(name, more=hooked(hook))
    wait_for(lambda: made.online() == set(MEMBERS))
    yield made
    assert not made.end()


@pytest.fixture(scope="module")
def done(acme, toy_data, tiny_base):
    folder = acme.home / "run"
    settings = acme.settings(toy_data, tiny_base, **RUN)
    ended = acme.coldfusion("run", settings, "--federation", acme.folder, "--out", folder, timeout=550)
    assert ended.returncode == 0, ended.stderr + (folder / "log.txt").read_text()
    (acme.home / "output").write_text(ended.stdout)
    return Ledger(folder)


@pytest.mark.parametrize(("number", "words"), enumerate(SPOILT, start=1))
def test_a_wrong_contribution_is_rejected_by_name_and_the_run_continues(done, number, words):
    [rejected] = done.record(number).rejected
    assert rejected.name == "c"
    assert words in rejected.reason
    assert set(done.record(number).contributions) == {"a", "b"}


def test_the_bases_are_those_of_a_run_without_it(acme, done, toy_data, tiny_base):
    changes = RUN | {"tasks.seen": '"a, b"', "contributors-per-round": "2"}
    simulated = acme.coldfusion("run", acme.settings(toy_data, tiny_base, **changes), "--out", acme.home / "simulated")
    assert simulated.returncode == 0, simulated.stderr
    for number in done.rounds():
        here, there = done.load_base(number), Ledger(acme.home / "simulated").load_base(number)
        assert {name: array.tobytes() for name, array in here.items()} == {
            name: array.tobytes() for name, array in there.items()
        }


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
    sys.path.insert(0, str(HOOKS))
    try:
        from sitecustomize import GARBAGE, HUGE
    finally:
        sys.path.remove(str(HOOKS))
    assert GARBAGE in received  # what is in an array
    assert len(received) > 4 * HUGE
    assert b"server-round" in received


def test_no_head_leaves_a_member(acme, received):
    files = sorted(acme.folder.glob("members/*/flower/state/**/head-*.safetensors"))
    assert len(files) >= 2 * 3
    for file in files:
        for name, array in load_file(file).items():
            data = array.tobytes()
            pieces = {data[at : at + 16] for at in range(0, len(data) - 15, 16)}
            assert not any(piece in received for piece in pieces if np.frombuffer(piece, np.float32).all()), name


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
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        client.PushMessages(request)
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert f"a reply that names node {nodes['a']} as its sender, but node {nodes['c']} signed the request" in log
