"""Flower's real simulation on Ray, with a tiny model and contributors that misbehave."""

import dataclasses
import time

import numpy as np
import pytest
from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.experiments.simulation import simulate, with_run_config
from flwr.app import Array

from coldfusion_fl.ledger import Ledger
from coldfusion_fl.settings import read_settings, to_table


def saboteur(culprit, kind):
    """A mod that spoils one contributor's training; nested, so that Ray's workers get it by value."""

    def mod(message, context, call_next):
        names = ["a", "b", "c", "d", "u"]
        spoilt = message.metadata.message_type == "train" and names[context.node_config["partition-id"]] == culprit
        if spoilt and kind == "raise":
            raise ValueError("out of paper")
        if spoilt and kind == "sleep":
            time.sleep(30)
        reply = call_next(message, context)
        if spoilt and kind == "nan":
            arrays = reply.content["arrays"]
            name = sorted(arrays)[0]
            arrays[name] = Array(np.full(arrays[name].shape, np.nan, np.float32))
        if spoilt and kind == "leak":
            reply.content["arrays"]["classifier.weight"] = Array(np.ones((2, 32), np.float32))
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
    settings = dataclasses.replace(read_settings(toy_run(**changes)), out=str(folder))
    ledger = Ledger.create(folder, to_table(settings))
    simulate(settings, ledger, contributor_app(mods=[*mods, with_run_config(settings)]))
    return ledger


@pytest.fixture(scope="module")
def honest():
    return {}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nan", "holds values that are not finite"),
        ("raise", "its training failed: out of paper"),
        ("leak", "1 weight that the base has not: 'classifier.weight'"),
        ("sleep", "did not answer within 15 s"),
    ],
)
def test_the_others_are_fused_and_the_culprit_is_named(toy_run, tmp_path, kind, reason, honest):
    changes = {"round-timeout": "15"} if kind == "sleep" else {}
    ledger = run(toy_run, tmp_path / "run", saboteur("c", kind), **changes)
    record = ledger.load_json(1, "record.json")
    assert record["refused"].keys() == {"c"}
    assert reason in record["refused"]["c"]
    assert record["contributions"].keys() == {"a", "b", "d"}
    assert record["fused"]
    assert ledger.status["state"] == "finished"
    # Whatever the culprit did, the fused base is the one of the three others, to the byte.
    fused = {name: array.tobytes() for name, array in ledger.load_base(1).items()}
    assert fused != {name: array.tobytes() for name, array in ledger.load_base(0).items()}
    assert honest.setdefault("fused", fused) == fused


def test_a_round_without_enough_contributions_keeps_its_base(toy_run, tmp_path):
    ledger = run(toy_run, tmp_path / "run", saboteur("a", "raise"), saboteur("b", "nan"), **{"min-contributions": "3"})
    assert not ledger.load_json(1, "record.json")["fused"]
    first, last = ledger.load_base(0), ledger.load_base(1)
    assert all(first[name].tobytes() == last[name].tobytes() for name in first)
