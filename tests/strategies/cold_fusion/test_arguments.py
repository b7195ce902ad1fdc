"""The arguments of the constructor and the initial arrays."""

import numpy as np
import pytest
from fake_grid import FakeGrid, node
from flwr.app import Array, ArrayRecord
from strategy_runs import run_strategy

from coldfusion_fl.aggregation.rules import Size
from coldfusion_fl.aggregation.server_optimizer import Nesterov
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import Ties
from coldfusion_fl.strategies import ColDFusion


def test_components_are_given_as_text_or_as_objects():
    nodes = [node("a", 1), node("b", 1), node("c", 4)]
    for fusion, server_optimizer in (
        ("median", "learning-rate(learning-rate=0.5)"),
        ("ties(density=1)", Nesterov(learning_rate=0.5, momentum=0.0)),
    ):
        fused, *_ = run_strategy(nodes, fusion=fusion, server_optimizer=server_optimizer)
        assert fused[0, 0] == (0.5 if fusion == "median" else 1.0)
    strategy = ColDFusion(fusion=Ties(), screening=[Size(), "direction"])
    assert [rule.name for rule in strategy.pipeline.screening] == ["size", "direction"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fusion": "meen"}, "unknown name 'meen'. Did you mean 'mean'? Available: dare"),
        ({"server_optimizer": "adamw"}, "unknown name 'adamw'. Did you mean 'adam'?"),
        (
            {"screening": "size, greedy-soop"},
            "unknown name 'greedy-soop'. Did you mean 'greedy-soup'? Available: direction, greedy-soup",
        ),
        ({"screening": "size(factor=0.5)"}, "'size.factor' must be above 1"),
        ({"screening": "greedy-soup"}, "greedy-soup needs a score"),
        ({"rollback": 1.0}, "rollback needs a score"),
        ({"fusion": "median", "screening": "influence-cap"}, "the fusion median ignores them"),
        (
            {"min_contributions": 9},
            "min_contributions is 9, and contributors_per_round is 8, so no round could ever fuse",
        ),
        ({"contributors_per_round": 0}, "contributors_per_round must be at least 1, but is 0"),
        ({"keep_last": -2}, "keep_last must be at least 0, but is -2"),
        ({"rollback": -1.0, "score_fn": len}, "rollback must be at least 0"),
        ({"contributors_per_round": 2.5}, "must be a whole number"),
        ({"ema": "0.9"}, "ema must be a number"),
        ({"rollback": float("nan"), "score_fn": len}, "rollback must be a finite number, but is nan"),
        ({"shared_keys": ""}, "shared_keys must be patterns"),
        ({"shared_keys": ["a.*"]}, "shared_keys must be patterns"),
        ({"ledger": "runs/mine"}, "ledger must be an opened run folder: Ledger.open('runs/mine')"),
        ({"awaited_names": "a, b"}, "awaited_names must be a list of names, not the text 'a, b'"),
        ({"screening": None}, "screening must be a text or a list of rules"),
        ({"score_fn": 3}, "score_fn must be a function"),
        ({"compression": "int4"}, "compression must be one of float32, bfloat16, float16, int8, but is 'int4'"),
        ({"fusion": 3}, "fusion must be an object or a text, such as 'mean', but is 3"),
        ({"screening": [len]}, "screening must be an object or a text"),
        ({"ema": 1.0}, "ema must be below 1, but is 1.0"),
        ({"blend": 0.5}, "blend needs the moving average"),
        ({"ema": 0.5, "blend": 0.0}, "blend must be above 0"),
    ],
)
def test_wrong_arguments_are_reported_by_the_constructor(settings, words):
    with pytest.raises(SettingsError) as caught:
        ColDFusion(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1, np.nan], np.float32), "'w' has values that are not finite"),
        (np.array([1j]), "'w' has the dtype complex128, but a numeric"),
        (np.array(["text"]), "a numeric dtype"),
    ],
)
def test_initial_arrays_that_cannot_be_fused_are_reported(array, words):
    strategy = ColDFusion(min_available_nodes=2)
    with pytest.raises(SettingsError, match="the initial arrays cannot be fused") as caught:
        strategy.start(FakeGrid({100: node("a"), 101: node("b")}), ArrayRecord({"w": Array(array)}))
    assert words in str(caught.value)
