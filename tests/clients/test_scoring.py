"""The scores of the first base in a simulation: an earlier run has computed them, or this one does."""

import subprocess
import sys

import numpy as np
import pytest
from client_messages import ask, context

from coldfusion_fl.clients import handlers, scoring
from coldfusion_fl.clients.node_settings import NodeSettings
from coldfusion_fl.evaluation import score_key
from coldfusion_fl.evaluation.score_cache import VARIABLE
from coldfusion_fl.runs.ledger import Ledger

BOTH = {
    "coldfusion.modes": "frozen,few-shot",
    "coldfusion.round": 0,
    "evaluate.shots": 12,
    "evaluate.few-shot-epochs": 1,
    "evaluate.few-shot-seeds": 2,
}


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "coldfusion-fl" / "scores"


@pytest.fixture
def computed(monkeypatch):
    """The modes of the scores that were computed."""
    found, compute = [], scoring.score_and_predict

    def counted(*given):
        found.append(given[3])
        return compute(*given)

    monkeypatch.setattr(scoring, "score_and_predict", counted)
    return found


@pytest.fixture
def simulated(monkeypatch, tmp_path, toy_data, tiny_base):
    """Scores a base on a node of a simulation, in a new run or in that of a ledger.

    Returns the metrics and the configuration of the reply, and the ledger.
    """
    runs = iter(range(100))

    def evaluate(encoder, task="b", ledger=None, **config):
        ledger = ledger or Ledger.create(tmp_path / f"run-{next(runs)}", {})
        place = (str(toy_data / "toy.toml"),), "", str(tiny_base)
        node = NodeSettings(task, task, *place, seen=False, run_folder=ledger.folder)
        monkeypatch.setattr(handlers, "read_node_settings", lambda _: node)
        reply = ask("evaluate", context({}), encoder, **BOTH | config)
        assert not reply.has_error(), reply.error.reason
        return dict(reply.content["metrics"]), dict(reply.content["config"]), ledger

    return evaluate


@pytest.fixture
def lines(monkeypatch):
    """The lines of the log, in what is like a new process."""
    found = []
    monkeypatch.setattr(scoring, "log", lambda level, text, *values: found.append(text % values))
    scoring._warn_once.cache_clear()
    yield found
    scoring._warn_once.cache_clear()


def files_of(folder):
    return sorted(folder.iterdir()) if folder.exists() else []


def test_a_second_run_computes_no_score_of_the_first_base(simulated, encoder, computed, folder):
    *first, ledger = simulated(encoder)
    assert computed == ["frozen", "few-shot"]
    assert not ledger.events()
    *second, ledger = simulated(encoder)
    assert computed == ["frozen", "few-shot"]
    assert first == second
    (event,) = ledger.events()
    assert (event.kind, event.round, event.name, event.modes) == ("scores-reused", 0, "b", ["frozen", "few-shot"])
    assert event.folder == str(folder)
    assert event.seconds > 0
    assert len(files_of(folder)) == 2


def test_what_is_new_is_computed_beside_what_is_cached(simulated, encoder, computed):
    simulated(encoder, **{"coldfusion.modes": "frozen"})
    metrics, _, ledger = simulated(encoder)
    assert computed == ["frozen", "few-shot"]
    assert {"frozen", "few-shot"} <= metrics.keys()
    assert [event.modes for event in ledger.events()] == [["frozen"]]


def test_another_base_task_or_setting_is_computed(simulated, encoder, computed):
    other = {name: array + np.float32(0.01) for name, array in encoder.items()}
    simulated(encoder)
    for given in ((other, {}), (encoder, {"task": "a"}), (encoder, {"coldfusion.seed": 2})):
        before = len(computed)
        _, _, ledger = simulated(given[0], **given[1])
        assert len(computed) == before + 2
        assert not ledger.events()


def test_a_later_base_is_computed_and_compared_with_the_cached_first_one(simulated, encoder, computed, folder):
    """The predictions of the first base are kept too, as its differences to later bases need them."""
    other = {name: array * np.float32(1.5) for name, array in encoder.items()}
    found = []
    for _ in range(2):
        _, _, ledger = simulated(encoder)
        found.append(simulated(other, ledger=ledger, **{"coldfusion.round": 1})[:2])
    assert computed == ["frozen", "few-shot"] * 3
    assert {"frozen-difference-error", "few-shot-difference-error"} <= found[0][0].keys()
    assert found[0] == found[1]
    assert len(files_of(folder)) == 2


def test_a_damaged_score_is_computed_again_and_logged(simulated, encoder, computed, folder, lines):
    first, *_ = simulated(encoder)
    for file in files_of(folder):
        file.write_bytes(b"damaged")
    second, _, ledger = simulated(encoder)
    assert first == second
    assert computed == ["frozen", "few-shot"] * 2
    assert len(lines) == 2
    assert not ledger.events()


def test_without_a_folder_everything_is_computed(simulated, encoder, computed, folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert simulated(encoder)[:2] == simulated(encoder)[:2]
    assert computed == ["frozen", "few-shot"] * 2
    assert not files_of(folder)


def test_a_folder_that_cannot_be_made_fails_no_evaluation_and_is_one_warning(
    simulated, encoder, computed, folder, lines
):
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    assert simulated(encoder)[:2] == simulated(encoder)[:2]
    assert computed == ["frozen", "few-shot"] * 2
    assert len(lines) == 1


def test_a_relative_folder_is_one_warning(simulated, encoder, computed, lines, monkeypatch):
    monkeypatch.setenv(VARIABLE, "cache")
    assert simulated(encoder)[:2] == simulated(encoder)[:2]
    assert computed == ["frozen", "few-shot"] * 2
    assert len(lines) == 1


def test_a_source_that_cannot_be_read_fails_no_evaluation(simulated, encoder, computed, folder, monkeypatch):
    monkeypatch.setattr(score_key, "_own_source", lambda: None)
    assert simulated(encoder)[:2] == simulated(encoder)[:2]
    assert computed == ["frozen", "few-shot"] * 2
    assert not files_of(folder)


def test_a_base_without_a_score_keeps_none(simulated, encoder, folder):
    huge = {name: array * np.float32(1e30) for name, array in encoder.items()}
    with pytest.raises(AssertionError, match="not numbers"):
        simulated(huge)
    assert not files_of(folder)


def test_a_member_of_a_deployment_does_not_load_the_cache():
    code = "import sys, coldfusion_fl.clients.client_app, coldfusion_fl.clients.handlers\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "coldfusion_fl.evaluation.scores" in loaded
    assert not {"coldfusion_fl.evaluation.score_cache", "coldfusion_fl.evaluation.score_key"} & set(loaded)


@pytest.mark.parametrize("state", ["context", "folder"])
def test_a_member_of_a_deployment_keeps_no_scores(node, encoder, computed, folder, tmp_path, state):
    """It writes what it wrote before: in its own folder, the first base's predictions and its secret."""
    own = tmp_path / "member"
    more = {"state-dir": str(own)} if state == "folder" else {}
    for _ in range(2):
        assert not ask("evaluate", context(node.node_config | more), encoder, **BOTH, run="r").has_error()
    assert computed == ["frozen", "few-shot"] * 2
    assert not files_of(folder)
    if state == "folder":
        names = {file.name for file in own.rglob("*") if file.is_file()}
        assert names == {"first-base-frozen-000.safetensors", "first-base-few-shot-000.safetensors", "secret"}


@pytest.mark.parametrize("number", [1, 2])
def test_a_later_round_keeps_nothing_and_reads_nothing(simulated, encoder, computed, folder, number):
    simulated(encoder, **{"coldfusion.round": number})
    assert not files_of(folder)
    simulated(encoder)
    _, _, ledger = simulated(encoder, **{"coldfusion.round": number})
    assert computed == ["frozen", "few-shot"] * 3
    assert not ledger.events()
