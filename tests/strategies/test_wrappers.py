"""ColDFusion inside Flower's wrappers for differential privacy, and contributors inside Flower's mods.

The wrappers run Flower's own loop, which calls the strategy's hooks and nothing else.
"""

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import (
    LocalDpMod,
    adaptiveclipping_mod,
    arrays_size_mod,
    fixedclipping_mod,
    message_size_mod,
)
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideAdaptiveClipping,
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideAdaptiveClipping,
    DifferentialPrivacyServerSideFixedClipping,
)
from strategy_runs import zero_arrays

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion

VALUES = {"a": 1.0, "b": 2.0, "c": 300.0}


def app_node(name, value, *mods):
    """A node with a real ClientApp that knows its name, its training inside Flower's mods."""
    app = ClientApp()
    context = Context(1, 1, {}, RecordDict(), {})

    @app.query()
    def query(message, context):
        return Message(RecordDict({"config": ConfigRecord({"name": name})}), reply_to=message)

    @app.train(mods=list(mods))
    def train(message, context):
        return Message(contribution(message.content["arrays"]["w"].numpy() + np.float32(value)), reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        return Message(RecordDict({"metrics": MetricRecord({"frozen": 1.0})}), reply_to=message)

    return lambda message: app(message, context)


def test_inside_a_wrapper_nothing_is_packed():
    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=3, min_available_nodes=3, compression="int8"
    )
    grid = FakeGrid({number: node(name, 1.0) for number, name in enumerate("abc", start=100)})
    SERVER_SIDE["fixed"](strategy, 3).start(grid, zero_arrays(), num_rounds=1, timeout=5)
    assert not any("compression" in m.content["config"] for m in grid.sent if m.metadata.message_type == "train")


CLIPPED = 6**0.5  # each update of ones has this norm
SERVER_SIDE = {
    "fixed": lambda s, n: DifferentialPrivacyServerSideFixedClipping(s, n, CLIPPED, 3),
    "adaptive": lambda s, n: DifferentialPrivacyServerSideAdaptiveClipping(s, n, 3, initial_clipping_norm=CLIPPED),
}
CLIENT_SIDE = {
    "fixed": (lambda s, n: DifferentialPrivacyClientSideFixedClipping(s, n, CLIPPED, 3), fixedclipping_mod),
    "adaptive": (
        lambda s, n: DifferentialPrivacyClientSideAdaptiveClipping(s, n, 3, initial_clipping_norm=CLIPPED),
        adaptiveclipping_mod,
    ),
}


@pytest.mark.parametrize("kind", SERVER_SIDE)
def test_clipping_at_the_server(kind, ledger):
    strategy = ColDFusion(contributor_names="query", contributors_per_round=3, min_available_nodes=3, ledger=ledger)
    grid = FakeGrid({i: node(name, value) for i, (name, value) in enumerate(VALUES.items(), start=100)})
    noise = 0.0 if kind == "fixed" else 1e-6
    result = SERVER_SIDE[kind](strategy, noise).start(grid, zero_arrays(), num_rounds=2, timeout=5)
    record = ledger.record(1)
    assert all(facts.norm <= CLIPPED * 1.001 for facts in record.contributions.values())
    assert ledger.load_base(1)["w"][0, 0] == pytest.approx(1, abs=1e-3)
    # What the ledger keeps is what the wrapper made of it, noise and all.
    assert ledger.load_base(2)["w"].tobytes() == result.arrays["w"].numpy().astype(np.float32).tobytes()
    assert ledger.rounds() == [0, 1, 2]


@pytest.mark.parametrize("kind", CLIENT_SIDE)
def test_clipping_at_the_contributors(kind, ledger):
    wrap, mod = CLIENT_SIDE[kind]
    strategy = ColDFusion(contributor_names="query", contributors_per_round=3, min_available_nodes=3, ledger=ledger)
    grid = FakeGrid({i: app_node(name, value, mod) for i, (name, value) in enumerate(VALUES.items(), start=100)})
    wrap(strategy, 0.0 if kind == "fixed" else 1e-6).start(grid, zero_arrays(), num_rounds=2, timeout=5)
    assert ledger.record(1).contributions.keys() == VALUES.keys()
    assert all(facts.norm <= CLIPPED * 1.001 for facts in ledger.record(2).contributions.values())


def test_noise_is_part_of_the_next_base(ledger):
    strategy = ColDFusion(contributor_names="query", contributors_per_round=3, min_available_nodes=3, ledger=ledger)
    grid = FakeGrid({i: node(name, value) for i, (name, value) in enumerate(VALUES.items(), start=100)})
    SERVER_SIDE["fixed"](strategy, 1.0).start(grid, zero_arrays(), num_rounds=1, timeout=5)
    base = ledger.load_base(1)["w"]
    assert len(np.unique(base)) == base.size


def test_flowers_mods_around_a_contributor():
    mods = (message_size_mod, arrays_size_mod, LocalDpMod(CLIPPED, 1.0, 1e9, 1e-5))
    strategy = ColDFusion(contributor_names="query", contributors_per_round=3, min_available_nodes=3)
    grid = FakeGrid({i: app_node(name, value, *mods) for i, (name, value) in enumerate(VALUES.items(), start=100)})
    result = strategy.start(grid, zero_arrays(), num_rounds=1, timeout=5)
    assert result.arrays["w"].numpy() == pytest.approx(np.ones(SHAPE), abs=1e-2)


def test_a_mod_that_knows_no_query_does_not_keep_its_node_out():
    app = ClientApp(mods=[fixedclipping_mod])
    context = Context(1, 1, {}, RecordDict(), {})

    @app.train()
    def train(message, context):
        return Message(contribution(message.content["arrays"]["w"].numpy() + np.float32(9)), reply_to=message)

    def as_flower_runs_it(message):
        try:
            return app(message, context)
        except ValueError as raised:
            return Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=str(raised))

    strategy = ColDFusion(contributor_names="query", contributors_per_round=2, min_available_nodes=2)
    grid = FakeGrid(dict.fromkeys([100, 101], as_flower_runs_it))
    wrapped = DifferentialPrivacyClientSideFixedClipping(strategy, 0.0, CLIPPED, 2)
    result = wrapped.start(grid, zero_arrays(), num_rounds=1, timeout=5)
    assert result.arrays["w"].numpy()[0, 0] == pytest.approx(1, abs=1e-3)


def test_flowers_own_loop_does_not_go_on_with_a_run(ledger):
    nodes = {i: node(name, value) for i, (name, value) in enumerate(VALUES.items(), start=100)}
    ColDFusion(contributor_names="query", min_available_nodes=3, ledger=ledger).start(
        FakeGrid(nodes), zero_arrays(), num_rounds=1, timeout=5
    )
    wrapped = SERVER_SIDE["fixed"](
        ColDFusion(contributor_names="query", min_available_nodes=3, ledger=Ledger.reopen(ledger.folder)), 0.0
    )
    with pytest.raises(RunFolderError, match="Flower's own loop cannot resume"):
        wrapped.start(FakeGrid(nodes), zero_arrays(), num_rounds=2, timeout=5)
