"""A round makes the next base of its contributions, without Flower."""

import numpy as np
import pytest

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.fusion import Contribution
from coldfusion_fl.repository.aggregator import Aggregator
from coldfusion_fl.repository.round_progress import RoundProgress
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord, RoundSettings

BASE = {"w": np.zeros(4, np.float32)}
SETTINGS = RoundSettings(
    fusion="mean", server_optimizer="plain", ema=0, screening=[], exclude=[], max_rejections=3, seed=0,
    contributors_per_round=2, min_contributions=1, compression="float32", staleness_discount=0,
)  # fmt: skip


@pytest.fixture
def state(tmp_path):
    state = ServerState(Ledger.create(tmp_path / "run", {}), 0, 0, 1, SETTINGS, warn=pytest.fail)
    state.save(BASE, RoundRecord(round=0))
    return state


def candidates(**values):
    found = {}
    for name, value in values.items():
        encoder = {"w": np.full(4, value, np.float32)}
        found[name] = Candidate(Contribution(name, encoder), update_norm(BASE, encoder), name)
    return found


def play_round(state, found, screening="", optimizer="plain", score_fn=None, rollback=None):
    events = []
    round_ = RoundProgress(RoundRecord(round=len(state.records), began=0.0), emit=events.append)
    pipeline = Pipeline.parse(screening, "mean", optimizer)
    base = Aggregator(state, pipeline, 1, score_fn, rollback).next_base(round_, found)
    state.save(state.base if base is None else base, round_.record)
    return round_.record, [event.kind for event in events]


def test_the_mean_is_the_next_base_and_all_of_it_is_recorded(state):
    record, events = play_round(state, candidates(a=1, b=2, c=3, loud=1000), screening="size")
    assert state.base["w"].tolist() == [2.0] * 4
    assert sorted(record.contributions) == ["a", "b", "c"]
    assert [(one.name, one.facts.norm) for one in record.rejected] == [("loud", 2000.0)]
    assert record.update_norm == 4
    assert events == ["contribution-rejected", "round-fused"]
    loaded = ServerState(state.ledger, 0, 0, 1, SETTINGS, warn=pytest.fail)
    assert loaded.load(BASE) == 1
    assert loaded.base["w"].tolist() == [2.0] * 4


def test_a_round_with_a_lower_score_keeps_its_base_and_its_momentum(state):
    play_round(state, candidates(a=1), optimizer="nesterov")
    base, momentum = state.base, state.optimizer_state
    record, events = play_round(
        state, candidates(b=-9), optimizer="nesterov", score_fn=lambda encoder: float(encoder["w"][0]), rollback=0.5
    )
    assert record.rolled_back
    assert record.kept_because.startswith("the server's validation score fell")
    assert events == ["base-kept"]
    assert state.base["w"].tolist() == base["w"].tolist()
    assert state.optimizer_state == momentum
