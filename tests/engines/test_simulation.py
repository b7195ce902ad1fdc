"""Flower's real simulation on Ray, with a tiny model and contributors that misbehave."""

import os
import signal
import time

import numpy as np
import pytest
from flwr.app import Array

from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.engines import simulation
from coldfusion_fl.engines.simulation import Simulation
from coldfusion_fl.engines.worker_mods import report_replacement, with_run_config
from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies.server_app import serve

pytestmark = pytest.mark.xdist_group("ray")


def attacks(**kinds):
    """A mod that spoils the training of contributors by name; nested, so that Ray's workers get it by value."""

    def mod(message, context, call_next):
        name = ["a", "b", "c", "d", "u"][context.node_config["partition-id"]]
        kind = kinds.get(name) if message.metadata.message_type == "train" else None
        if kind == "raise":
            raise ValueError("out of paper")
        if kind == "die":  # as when the kernel ends a process because memory is short
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "sleep":
            time.sleep(60)  # Flower's simulation ends only when this does
        reply = call_next(message, context)
        arrays = None if kind is None else reply.content["arrays"]
        if kind == "nan":
            first = sorted(arrays)[0]
            arrays[first] = Array(np.full(arrays[first].shape, np.nan, np.float32))
        if kind == "leak":
            arrays["classifier.weight"] = Array(np.ones((2, 32), np.float32))
        return reply

    return mod


def run(toy_run, folder, *mods, **changes):
    changes = {
        "rounds": "1",
        "contributors-per-round": "4",
        "evaluate.every": "0",
        "evaluate.shots": "0",
        **changes,
    }
    settings = read_settings(toy_run(**changes)).model_copy(update={"out": str(folder)})
    ledger = Ledger.create(folder, to_table(settings))
    app = contributor_app(mods=[report_replacement(settings), *mods, with_run_config(settings)])
    with Simulation(app, len(settings.task_names), settings.simulation) as started:
        started.call(lambda grid: serve(grid, settings, ledger))
    return ledger


REASONS = {
    "nan": "holds values that are not finite",
    "raise": "its training failed: out of paper",
    "leak": "1 weight that the base does not have: 'classifier.weight'",
    "sleep": "did not answer within 40 s",
}


def test_honest_contributions_are_fused_and_wrong_ones_rejected_by_name(toy_run, tmp_path):
    everybody = {"tasks.seen": '"a, b, c, d, u"', "tasks.unseen": "", "contributors-per-round": "5"}
    culprits = {"a": "nan", "c": "raise", "u": "leak"}
    ledger = run(toy_run, tmp_path / "run", attacks(**culprits), **everybody)
    record = ledger.record(1)
    rejected = {rejection.name: rejection.reason for rejection in record.rejected}
    assert rejected.keys() == culprits.keys()
    assert all(REASONS[kind] in rejected[name] for name, kind in culprits.items())
    assert record.contributions.keys() == {"b", "d"}
    assert record.fused
    assert ledger.state.state == "finished"


@pytest.fixture(scope="module")
def honest():
    return {}


@pytest.mark.long
@pytest.mark.parametrize("kind", REASONS)
def test_a_wrong_contribution_has_no_influence_on_the_fused_base(toy_run, tmp_path, kind, honest):
    changes = {"round-timeout": "40"} if kind == "sleep" else {}
    ledger = run(toy_run, tmp_path / "run", attacks(c=kind), **changes)
    record = ledger.record(1)
    (rejection,) = record.rejected
    assert rejection.name == "c"
    assert REASONS[kind] in rejection.reason
    assert record.contributions.keys() == {"a", "b", "d"}
    # Whatever the culprit did, the fused base is the one of the three others, to the byte.
    fused = {name: array.tobytes() for name, array in ledger.load_base(1).items()}
    assert fused != {name: array.tobytes() for name, array in ledger.load_base(0).items()}
    assert honest.setdefault("fused", fused) == fused


@pytest.mark.slow
def test_a_contributor_that_always_kills_its_worker_is_named_and_the_others_are_fused(toy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "MAX_RETRIES", 1)
    ledger = run(toy_run, tmp_path / "run", attacks(c="die"), **{"evaluate.every": "-1"})
    record = ledger.record(1)
    (rejection,) = record.rejected
    assert (rejection.name, rejection.received, rejection.counts_toward_exclusion) == ("c", False, False)
    assert "memory" in rejection.reason
    assert record.contributions.keys() == {"a", "b", "d"}
    # The contributor's work was given to a new worker once, and the pool is whole again.
    assert "worker-replaced" in {event.kind for event in ledger.events()}


@pytest.mark.slow
def test_a_round_in_which_workers_died_and_nothing_was_fused_is_not_saved(toy_run, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "MAX_RETRIES", 0)
    two = {"tasks.seen": '"a, b"', "contributors-per-round": "2", "evaluate.every": "-1"}
    with pytest.raises(RunError) as error:
        run(toy_run, tmp_path / "run", attacks(b="die"), **two)
    assert error.value.code == ErrorCode.WORKERS_FAILED
    assert "b: its worker process" in str(error.value)
    ledger = Ledger(tmp_path / "run")
    assert ledger.rounds() == [0]
    assert ledger.state.state == "failed"
