"""The metrics of `coldfusion status --prometheus`, read back by Prometheus' own parser."""

import contextlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from coldfusion_fl.engines.deployment import commands, online_status
from coldfusion_fl.engines.deployment.control import Node
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.operations.prometheus import run_metrics
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import DeploymentError
from coldfusion_fl.runs import events
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, RejectionRecord, RoundRecord
from coldfusion_fl.runs.status import run_status

ALERTS = Path(__file__).parents[4] / "docs" / "operations" / "alerts.yaml"
HOSTILE = 'x"} 1\ncoldfusion_server_up{federation="acme\\'


@pytest.fixture
def ledger(tmp_path):
    """A run of two members and one with a hostile name, after its first round."""
    made = Ledger.create(tmp_path / "run", {"rounds": 3})
    made.emit(events.RunStarted())
    made.emit(events.NodesConnected(seen=["a", "b", HOSTILE], rounds=3, time=900.0))
    made.emit(events.RoundStarted(round=1, sampled=["a", "b"]))
    made.emit(events.ContributionReceived(round=1, name="a", time=1000.0))
    made.emit(events.RunLost(round=1, reason="killed"))
    contribution = ContributionRecord(norm=1, share=1, reported={"loss": 0.5})
    made.save_round({"w": np.zeros(3, np.float32)}, RoundRecord(round=0))
    rejected = [RejectionRecord(name="b", reason="NaN")]
    record = RoundRecord(round=1, fused=True, contributions={"a": contribution}, rejected=rejected, ended=2000.0)
    made.save_round({"w": np.zeros(3, np.float32)}, record)
    made.save_scores(1, {"a": {"frozen": 61.5, "num-examples": 40, "metric": "accuracy"}})
    return made


@pytest.fixture
def federation(tmp_path, monkeypatch):
    made = Federation(tmp_path / "acme", "acme", "127.0.0.1", 9443)
    new_federation(made, ["a", "b"])

    class FakeControl:
        def nodes(self):
            return [Node(1, "a", b"", True, 3000.0), Node(2, "b", b"", False, None), Node(3, "new", b"", True, 4000.0)]

    monkeypatch.setattr(online_status, "control_of", lambda federation: contextlib.nullcontext(FakeControl()))
    return made


def metrics_of(ledger, federation=None):
    """The values by name and labels, in the order of the labels' names; the label `run` is checked here."""
    found = {}
    for family in text_string_to_metric_families(run_metrics(run_status(ledger), ledger, federation)):
        for sample in family.samples:
            labels = dict(sorted(sample.labels.items()))
            assert labels.pop("run", str(ledger.folder)) == str(ledger.folder)
            found[(sample.name.removeprefix("coldfusion_"), *labels.values())] = sample.value
    return found


def test_the_run(ledger):
    found = metrics_of(ledger)
    states = {key[1]: value for key, value in found.items() if key[0] == "run_state"}
    assert states == {"running": 0, "finished": 0, "stopped": 0, "failed": 0, "unknown": 0, "lost": 1}
    expected = {"round": 1, "rounds_planned": 3, "restarts_total": 1}
    expected |= {"last_round_timestamp_seconds": 2000, "last_round_fused_contributions": 1}
    assert {name: found[(f"run_{name}",)] for name in expected} == expected
    assert found[("run_size_bytes",)] > 0
    assert found[("run_disk_free_bytes",)] > 0


def test_the_members(ledger):
    found = metrics_of(ledger)
    assert [found[("member_fused_total", name)] for name in "ab"] == [1, 0]
    assert [found[("member_rejections_total", name)] for name in "ab"] == [0, 1]
    assert found[("member_last_heard_timestamp_seconds", "a")] == 1000
    assert found[("member_last_heard_timestamp_seconds", "b")] == 900
    assert found[("member_training_loss", "a")] == 0.5
    assert {key[1:]: value for key, value in found.items() if key[0] == "member_score"} == {("frozen", "a"): 61.5}
    activities = {key[1]: value for key, value in found.items() if key[0] == "member_activity" and key[2] == "a"}
    assert len(activities) == 7
    assert sum(activities.values()) == 1
    assert not any(key[0] in ("member_online", "server_up") for key in found)


def test_the_server_and_who_is_online(ledger, federation):
    federation.database.write_bytes(bytes(1000))
    found = metrics_of(ledger, federation)
    assert found[("server_up", "acme")] == 1
    assert [found[("member_online", name)] for name in "ab"] == [1, 0]
    heard = [found[("member_last_heard_timestamp_seconds", name)] for name in ("a", "b", "new")]
    assert heard == [3000, 900, 4000]  # a heartbeat; the wait for the members; a heartbeat of one that took no part yet
    for whose in ("server", "authority"):
        assert found[(f"{whose}_certificate_expiry_timestamp_seconds", "acme")] > 1.7e9
    assert found[("server_database_size_bytes", "acme")] == 1000


@pytest.fixture
def silent_server(federation, monkeypatch):
    """The federation's server does not answer."""

    def control_of(_):
        raise DeploymentError("no answer")

    monkeypatch.setattr(online_status, "control_of", control_of)


@pytest.mark.usefixtures("silent_server")
def test_a_server_that_does_not_answer_is_a_metric_and_no_error(ledger, federation):
    found = metrics_of(ledger, federation)
    assert found[("server_up", "acme")] == 0
    assert found[("run_round",)] == 1


@pytest.mark.usefixtures("silent_server")
def test_the_status_of_a_run_does_not_need_the_server(ledger, federation, capsys):
    commands.status(ledger.folder, federation.folder, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["round"] == 1
    assert any("no answer" in warning for warning in found["warnings"])


def test_a_members_name_cannot_add_metrics(ledger):
    found = metrics_of(ledger)
    assert ("member_fused_total", HOSTILE) in found
    assert not any(key[0] == "server_up" for key in found)


def test_a_member_cannot_add_kinds_of_scores(ledger):
    flood = {f"x{number}": 1.0 for number in range(100)}
    ledger.save_scores(1, {"a": {"frozen": 61.5, "frozen-difference-error": 1.5, **flood}})
    assert [key[1:] for key in metrics_of(ledger) if key[0] == "member_score"] == [("frozen", "a")]


def test_a_run_without_rounds(tmp_path):
    found = metrics_of(Ledger.create(tmp_path / "new", {"rounds": 3}))
    assert ("run_round",) not in found
    assert found[("run_rounds_planned",)] == 3


def test_the_example_alerts_use_metrics_that_exist(ledger, federation):
    names = {f"coldfusion_{key[0]}" for key in metrics_of(ledger, federation)}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) > 5
    for rule in rules:
        used = set(re.findall(r"coldfusion_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= names, rule["alert"]


@pytest.fixture
def promtool():
    """Runs a command of promtool to its end."""
    program = shutil.which("promtool") or pytest.skip("promtool is not installed")

    def run(*words, text=None):
        done = subprocess.run([program, *words], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_promtool_accepts_the_metrics(ledger, federation, promtool):
    promtool("check", "metrics", text=run_metrics(run_status(ledger), ledger, federation))


def test_each_alert_fires_when_it_should(promtool):
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(Path(__file__).with_name("alerts.test.yaml")))
