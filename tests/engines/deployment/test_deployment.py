"""A whole federation in real processes on loopback: TLS, known members, and what must not get in."""

import json
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request

import pytest
from acme import Acme, fill_in, wait_for
from prometheus_client.parser import text_string_to_metric_families

from coldfusion_fl.engines.deployment.certificates import new_member_key
from coldfusion_fl.engines.deployment.federation import open_federation
from coldfusion_fl.engines.deployment.member.join import free_port

pytestmark = pytest.mark.slow


def test_all_checks_of_a_member_pass(acme):
    done = acme.coldfusion("member", "check", acme.folder / "members" / "a")
    assert done.returncode == 0, done.stdout
    assert "server knows" in done.stdout
    assert "NO" not in done.stdout


def test_the_federation_makes_the_bases_that_the_simulation_makes(done, simulated):
    assert done.state.state == "finished"
    assert simulated.rounds() == [0, 1]
    for number in simulated.rounds():
        here, there = done.load_base(number), simulated.load_base(number)
        assert {name: array.tobytes() for name, array in here.items()} == {
            name: array.tobytes() for name, array in there.items()
        }
    assert (done.folder / "model" / "model.safetensors").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="there, Flower starts the processes for messages itself")
def test_the_processes_that_handle_messages_are_copies_of_one(acme, done):
    log = (acme.folder / "members" / "a" / "flower" / "supernode.log").read_text()
    assert log.count("Receiving: train message") == 5
    assert "Start `flwr-clientapp` process" not in log
    copied = acme.process("a", "multiprocessing.forkserver")
    assert any("libtorch" in one.path for one in copied.memory_maps())


def test_a_members_terminal_and_log_say_what_it_trained_sent_and_reported(acme, done):
    log = (acme.folder / "members" / "a" / "flower" / "messages.log").read_text()
    for text in (log, acme.said("a")):
        for number in (1, 2):
            trained = rf"(?m)^[-0-9]+ [:0-9]+ round {number}: trained on 'a': 32 rows, 2 steps, .* loss \d"
            assert re.search(f"{trained}.*, embeddings frozen$", text)
            assert re.search(rf"round {number}: sent arrays: \d+ arrays of float32, \d+\.\d MB", text)
            assert re.search(rf"round {number}: reported to the server: .*loss=.*num-examples=32", text)
        assert re.search("reported to the server: name=a, task=a, seen=True, versions=coldfusion-fl", text)
        assert "\x1b" not in text
    assert "error" not in log


def test_the_log_of_the_run_says_what_happened_without_members_paths(acme, done, toy_data):
    text = (done.folder / "log.txt").read_text()
    for part in (
        "[ROUND 1/5]",
        "[ROUND 5/5]",
        "Round 2: the contribution of 'c' is rejected: ",
        "('old') is excluded: ",
    ):
        assert part in text
    assert not any(f"{path}/" in text for path in (acme.folder / "members", toy_data))


def test_health_checks_of_a_running_federation(acme, done):
    server = acme.coldfusion("federation", "health", acme.folder)
    assert server.returncode == 0, server.stdout
    assert re.search(r"is up; \d of \d members online; its certificate is valid for 82\d more days", server.stdout)
    member = acme.coldfusion("member", "health", acme.folder / "members" / "a")
    assert member.returncode == 0, member.stdout
    assert "'a' has joined" in member.stdout


def test_the_metrics_of_a_run_in_a_federation(acme, done):
    shown = acme.coldfusion("status", done.folder, "--federation", acme.folder, "--prometheus")
    assert shown.returncode == 0, shown.stderr
    values = {
        (sample.name, sample.labels.get("member"), sample.labels.get("state")): sample.value
        for family in text_string_to_metric_families(shown.stdout)
        for sample in family.samples
    }
    assert values[("coldfusion_server_up", None, None)] == 1
    assert values[("coldfusion_run_state", None, "finished")] == 1
    assert values[("coldfusion_member_online", "a", None)] == 1
    assert [values[("coldfusion_member_fused_total", name, None)] for name in "abc"] == [5, 5, 2]
    assert values[("coldfusion_member_rejections_total", "c", None)] == 3
    assert 0 < values[("coldfusion_member_training_loss", "a", None)] < 10


def test_a_federation_and_a_run_are_restored_from_copies(acme, done, tmp_path):
    """As docs/operations/backup.md says: without Flower's files. The server of the copy listens on another port."""
    federation, run = tmp_path / "acme", tmp_path / "run"
    for source, copy in ((acme.folder, federation), (done.folder, run)):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("flower"))
    (federation / "server" / "flower").mkdir()
    checked = acme.coldfusion("log", run, "--check")
    assert checked.returncode == 0, checked.stderr
    assert "5 of 5 rounds are done" in acme.coldfusion("status", run).stdout
    made = Acme(tmp_path)
    file = federation / "federation.toml"
    file.write_text(re.sub(r":\d+", f":{free_port()}", file.read_text()))
    try:
        made.serve()  # with a new database, and the members' keys from the copy
        registered = json.loads(open_federation(federation).members_file.read_text())
        assert registered.keys() == {"a", "b", "c", "old"}
    finally:
        assert not made.end()


def test_a_stranger_is_not_admitted_and_its_address_is_logged(acme, tmp_path):
    """Its certificate and settings are right, its key is not."""
    stranger = tmp_path / "stranger"
    shutil.copytree(acme.folder / "members" / "a", stranger, ignore=shutil.ignore_patterns("flower"))
    (stranger / "member.key").write_bytes(new_member_key()[0])
    checked = acme.coldfusion("member", "check", stranger)
    assert checked.returncode == 2
    assert "the server does not recognize the key" in checked.stdout
    members = acme.online()
    acme.join("stranger", stranger)
    wait_for(lambda: "Flower exited with code" in acme.said("stranger"))
    wait_for(lambda: "the server does not recognize the key" in acme.said("stranger"))
    acme.processes.pop("stranger").terminate()
    assert acme.online() == members
    assert turned_away(acme)


def test_a_member_without_a_valid_task_does_not_join(acme, tmp_path):
    folder = tmp_path / "spoilt"
    shutil.copytree(acme.folder / "members" / "a", folder, ignore=shutil.ignore_patterns("flower"))
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"text {number},good\n" for number in range(40)))
    (folder / "own.toml").write_text('[tasks.a]\ntrain = "rows.csv"\n')
    file = folder / "member.toml"
    file.write_text(re.sub("(?m)^catalogue = .*", 'catalogue = "own.toml"', file.read_text()))
    started = acme.coldfusion("member", "start", folder)
    assert started.returncode == 2
    assert "train has only one class, 'good'" in started.stderr
    assert "joins" not in started.stdout


def turned_away(acme):
    """The lines of the server's log about this machine's nodes that asked to be let in, and were not."""
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    return [line for line in log.splitlines() if "127.0.0.1" in line and "activate-node" in line and " 4" in line]


def test_a_request_through_an_unknown_proxy_is_rejected(acme):
    federation = open_federation(acme.folder)
    trust = ssl.create_default_context(cafile=federation.authority)
    request = urllib.request.Request(
        f"https://{federation.address}/v1/control/nothing", headers={"X-Forwarded-For": "203.0.113.7"}
    )
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10, context=trust)
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert "/v1/control/nothing" in log
    assert "203.0.113.7" not in log


def test_a_server_at_an_ipv6_address(tmp_path):
    made = Acme(tmp_path)
    address = f"[::1]:{free_port()}"
    init = made.coldfusion("federation", "init", made.folder, "--address", address, "--members", "a")
    assert init.returncode == 0, init.stderr
    renewed = made.coldfusion("federation", "renew", made.folder)
    assert renewed.returncode == 0, renewed.stderr
    try:
        made.serve()
        assert made.online() == set()
        assert "Admitted member 'a'" in made.said("server")
        again = made.coldfusion("federation", "serve", made.folder)
        assert again.returncode == 2
        assert "is already running" in again.stderr
    finally:
        assert not made.end()


def test_clients_without_tls_or_trust_get_no_answer(acme):
    federation = open_federation(acme.folder)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://{federation.address}/v1/fleet/pull-messages", timeout=10)
    with pytest.raises(OSError, match="."):
        urllib.request.urlopen(f"http://{federation.address}/v1/fleet/pull-messages", timeout=10)
    log = (acme.folder / "server" / "flower" / "superlink.log").read_text()
    assert log.count("TLS handshake with 127.0.0.1 failed") == 2


def test_members_are_added_and_removed_while_the_server_runs(acme, toy_data, tiny_base):
    assert acme.coldfusion("federation", "add", acme.folder, "guest").returncode == 0
    wait_for(lambda: "Admitted member 'guest'" in acme.said("server"))
    fill_in(acme.folder / "members" / "guest", "d", toy_data, tiny_base)
    acme.join("guest")
    wait_for(lambda: "guest" in acme.online())
    key = acme.home / "guest.pub"
    shutil.copy(open_federation(acme.folder).public_key("guest"), key)
    assert acme.coldfusion("federation", "remove", acme.folder, "guest").returncode == 0
    wait_for(lambda: "Removed member 'guest'" in acme.said("server"))
    assert "guest" not in acme.online()
    assert "guest" not in json.loads(open_federation(acme.folder).members_file.read_text())
    checked = acme.coldfusion("member", "check", acme.folder / "members" / "guest")
    assert "the server does not recognize the key" in checked.stdout
    # Flower takes no key twice; that keeps nobody else out.
    assert acme.coldfusion("federation", "add", acme.folder, "guest", "--public-key", key).returncode == 0
    wait_for(lambda: "'guest' cannot be admitted" in acme.said("server"))
    assert acme.coldfusion("federation", "add", acme.folder, "zoe").returncode == 0
    wait_for(lambda: "Admitted member 'zoe'" in acme.said("server"))
    for name in ("guest", "zoe"):
        assert acme.coldfusion("federation", "remove", acme.folder, name).returncode == 0
    # The removed member ends and says why, when the server has not known it for a minute.
    assert acme.processes.pop("guest").wait(180) == 77, acme.said("guest")
    assert "has removed 'guest'" in acme.said("guest")
