"""How a run's settings become a strategy."""

from types import SimpleNamespace

import numpy as np
import pytest

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.rules import GreedySoup, Size
from coldfusion_fl.aggregation.server_optimizer import Nesterov
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import Ties
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import server_app
from coldfusion_fl.strategies.server_app import new_strategy


@pytest.fixture
def strategy(toy_run, tiny_base, tmp_path):
    def make(node_names=None, **changes):
        settings = read_settings(toy_run(**changes))
        ledger = Ledger.create(tmp_path / "run", to_table(settings))
        return new_strategy(settings, open_base(str(tiny_base)), ledger, node_names)

    return make


def test_the_defaults_are_those_of_the_paper(strategy):
    made = strategy()
    assert (made.settings.fusion, made.settings.server_optimizer, made.settings.screening) == ("mean", "plain", [])
    assert made.score_fn is made.settings.rollback is None
    assert made.settings.contributors_per_round == 3


def test_the_members_of_a_federation_are_awaited_by_name_except_those_that_left(strategy):
    made = strategy(node_names=lambda: {1: "a", 2: "b", 3: "guest"})
    assert made.participants.awaited_names == {"a", "b"}
    assert made.participants.min_available_nodes == 2


def test_a_simulation_waits_for_a_number_of_nodes(strategy):
    made = strategy()
    assert (made.participants.awaited_names, made.participants.min_available_nodes) == (frozenset(), 5)


def test_every_server_setting_reaches_the_strategy(strategy):
    settings = {
        "server.fusion": '"ties(density=0.5)"',
        "server.server-optimizer": '"nesterov(momentum=0.5)"',
        "server.ema": "0.9",
        "server.screening": '"size(factor=7), greedy-soup"',
        "server.max-rejections": "2",
        "server.server-validation": '"u"',
        "server.rollback": "3",
        "server.keep-last": "4",
    }
    made = strategy(**settings)
    assert made.pipeline == Pipeline((Size(factor=7), GreedySoup()), Ties(density=0.5), Nesterov(momentum=0.5))
    assert (made.settings.ema, made.settings.max_rejections, made.settings.rollback) == (0.9, 2, 3)
    assert made.state.keep_last == 4


def test_the_score_function_returns_points_that_differ_between_encoders(strategy, tiny_base):
    score_fn = strategy(**{"server.server-validation": '"u"', "server.screening": '"greedy-soup"'}).score_fn
    encoder = load_encoder(open_base(str(tiny_base)))
    whole, blank = score_fn(encoder), score_fn({name: np.zeros_like(array) for name, array in encoder.items()})
    assert 0 <= blank < whole <= 100
    assert score_fn(encoder) == whole  # not of a draw
    assert score_fn({name: array * np.float32(1e30) for name, array in encoder.items()}) == -np.inf  # not numbers


def test_flwr_run_checks_the_trackers_before_anything_is_written(toy_run, tmp_path):
    out = tmp_path / "run"
    settings = read_settings(toy_run(out=f'"{out}"', **{"tracking.to": '"tensorbord"'}))
    context = SimpleNamespace(run_config=flatten(to_table(settings)), run_id=1)
    with pytest.raises(SettingsError):
        server_app.main(None, context)
    assert not out.exists()
