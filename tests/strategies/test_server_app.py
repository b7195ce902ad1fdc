"""How a run's settings become a strategy."""

import numpy as np
import pytest

from coldfusion_fl.aggregation.rules import GreedySoup, Size
from coldfusion_fl.aggregation.server_optimizer import Nesterov
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.fusion import Ties
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies.server_app import new_strategy


@pytest.fixture
def strategy(toy_run, tiny_base, tmp_path):
    def make(node_names=None, **changes):
        settings = read_settings(toy_run(**changes))
        ledger = Ledger.create(tmp_path / "run", to_table(settings))
        return new_strategy(settings, open_base(str(tiny_base)), ledger, node_names)

    return make


def test_the_defaults_are_the_papers(strategy):
    made = strategy()
    assert (str(made.fusion), str(made.server_optimizer), made.screening, made.score_fn) == ("mean", "plain", (), None)
    assert made.rollback is None
    assert made.contributors_per_round == 3


def test_a_federations_members_are_awaited_by_name_and_one_that_left_is_not(strategy):
    made = strategy(node_names=lambda: {1: "a", 2: "b", 3: "guest"})
    assert made.awaited_names == {"a", "b"}
    assert made.min_available_nodes == 2


def test_elsewhere_nodes_are_counted(strategy):
    made = strategy()
    assert (made.awaited_names, made.min_available_nodes) == (frozenset(), 5)


def test_every_setting_of_the_server_arrives(strategy):
    made = strategy(
        server__fusion='"ties(density=0.5)"',
        server__server_optimizer='"nesterov(momentum=0.5)"',
        server__ema="0.9",
        server__screening='"size(factor=7), greedy-soup"',
        server__max_rejections="2",
        server__server_validation='"u"',
        server__rollback="3",
        server__keep_last="4",
    )
    assert made.fusion == Ties(density=0.5)
    assert made.server_optimizer == Nesterov(momentum=0.5)
    assert made.screening == (Size(factor=7), GreedySoup())
    assert (made.ema, made.max_rejections, made.rollback, made.keep_last) == (0.9, 2, 3, 4)


def test_the_probe_tells_encoders_apart_in_points(strategy, tiny_base):
    probe = strategy(server__server_validation='"u"', server__screening='"greedy-soup"').score_fn
    encoder = load_encoder(open_base(str(tiny_base)))
    whole, blank = probe(encoder), probe({name: np.zeros_like(array) for name, array in encoder.items()})
    assert 0 <= blank < whole <= 100
    assert probe(encoder) == whole  # not of a draw
