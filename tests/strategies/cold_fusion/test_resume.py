"""A run that stopped goes on after its last saved round."""

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, diverging_node, node
from flwr.app import Array, ArrayRecord, MetricRecord
from strategy_runs import run_strategy, trained_nodes, zero_arrays

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion


@pytest.fixture
def unbroken(tmp_path):
    """Settings of a run with a server state, its nodes, and the ledger of 5 rounds without a stop."""
    settings = {
        "server_optimizer": "nesterov",
        "ema": 0.9,
        "screening": "size",
        "contributors_per_round": 3,
        "max_rejections": 2,
    }
    nodes = [node("a", 1), node("b", 1.5), node("c", 2), node("d", 0.7), diverging_node("bad")]
    ledger = Ledger.create(tmp_path / "unbroken", {})
    run_strategy(nodes, rounds=5, ledger=ledger, **settings)
    return settings, nodes, ledger


def assert_same_rounds(one, other):
    assert one.rounds() == other.rounds()
    for number in one.rounds():
        for load in ("load_base", "load_optimizer_state", "load_average"):
            a, b = getattr(one, load)(number), getattr(other, load)(number)
            assert {n: x.tobytes() for n, x in a.items()} == {n: x.tobytes() for n, x in b.items()}, (number, load)
        assert one.record(number).base_sha256 == other.record(number).base_sha256
        assert one.load_scores(number) == other.load_scores(number)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_resumed_run_ends_with_the_same_bytes_as_an_unbroken_one(unbroken, ledger, stop):
    settings, nodes, unbroken_ledger = unbroken
    run_strategy(nodes, rounds=stop, ledger=ledger, **settings)
    run_strategy(nodes, rounds=5, ledger=Ledger.reopen(ledger.folder), **settings)
    assert_same_rounds(unbroken_ledger, ledger)


# A run may be killed after it saved the scores and before it saved the metrics.
@pytest.mark.parametrize("lost", [("scores.json", "metrics.json"), ("metrics.json",)], ids=str)
def test_a_base_that_was_not_evaluated_to_the_end_is_evaluated_at_the_resume(unbroken, ledger, lost):
    settings, nodes, unbroken_ledger = unbroken
    run_strategy(nodes, rounds=2, ledger=ledger, **settings)
    for name in lost:
        (ledger.round_folder(2) / name).unlink()
        sums = ledger.round_folder(2) / "SHA256SUMS"
        sums.write_text("".join(line for line in sums.read_text().splitlines(True) if name not in line))
    _, result, _ = run_strategy(nodes, rounds=5, ledger=Ledger.reopen(ledger.folder), **settings)
    assert_same_rounds(unbroken_ledger, ledger)
    assert sorted(result.evaluate_metrics_clientapp) == list(range(6))
    for number in ledger.rounds():
        assert unbroken_ledger.load_metrics(number) == ledger.load_metrics(number)


def test_a_run_that_ends_in_the_servers_own_evaluation_keeps_what_the_nodes_answered(tmp_path):
    def run(central):
        grid = FakeGrid({100: node("a", 1), 101: node("b", 3)})
        strategy = ColDFusion(ledger=Ledger.open(tmp_path / "run"))
        result = strategy.start(grid, zero_arrays(), num_rounds=1, timeout=5, evaluate_fn=central)
        return result, sum(message.metadata.message_type == "evaluate" for message in grid.sent)

    def fails(server_round, arrays):
        raise MemoryError

    with pytest.raises(MemoryError):
        run(fails)
    result, evaluations = run(lambda server_round, arrays: MetricRecord({"loss": 1.0}))
    assert evaluations == 2  # of round 1 alone
    assert sorted(result.evaluate_metrics_clientapp) == sorted(result.evaluate_metrics_serverapp) == [0, 1]


def test_a_base_that_was_evaluated_without_metrics_is_not_evaluated_again(ledger):
    def evaluations(rounds):
        nodes = [node("a", 1), node("b", 3)]
        none = {"evaluate_metrics_aggr_fn": lambda contents, key: MetricRecord()}
        grid = run_strategy(nodes, rounds=rounds, ledger=Ledger.reopen(ledger.folder), **none)[2]
        return sum(message.metadata.message_type == "evaluate" for message in grid.sent)

    assert evaluations(1) == 4
    assert evaluations(2) == 2


def test_a_run_resumes_only_with_a_model_of_the_same_arrays(unbroken, caplog):
    settings, nodes, ledger = unbroken
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    strategy, larger = (
        ColDFusion(contributor_names="query", ledger=ledger, **settings),
        ArrayRecord({"w": Array(np.ones(9, np.float32))}),
    )
    with pytest.raises(RunFolderError, match=r"started with a different model: 'w' has the shape \(9,\)"):
        strategy.start(grid, larger, num_rounds=9)
    assert ledger.state.state == "finished"  # as it was
    kept = ledger.load_base(5)["w"]
    other = ArrayRecord({"w": Array(np.full(SHAPE, 1e6, np.float32))})  # such as a model that is drawn afresh
    ColDFusion(contributor_names="query", min_available_nodes=2, ledger=ledger, **settings).start(
        grid, other, num_rounds=6, timeout=5
    )
    assert any("resumes from its saved base" in record.message for record in caplog.records)
    assert np.abs(ledger.load_base(6)["w"] - kept).max() < 10


def test_a_run_resumes_with_other_screening_and_exclusions_but_not_with_other_settings(unbroken):
    settings, nodes, ledger = unbroken
    with pytest.raises(RunFolderError) as caught:
        run_strategy(nodes, rounds=6, ledger=ledger, **{**settings, "server_optimizer": "plain", "seed": 9})
    for line in (
        "server-optimizer: saved 'nesterov(learning-rate=0.7, momentum=0.9)', now 'plain'",
        "seed: saved 0, now 9",
    ):
        assert f"\n  {line}" in str(caught.value)
    run_strategy(nodes, rounds=6, ledger=ledger, **{**settings, "screening": "", "exclude": ["a"], "max_rejections": 9})
    assert "bad" not in ledger.record(6).excluded  # pardoned
    assert "a" in ledger.record(6).excluded
    assert ledger.record(6).fused


def test_keep_last_limits_the_rounds_whose_arrays_are_kept(unbroken, ledger):
    settings, nodes, unbroken_ledger = unbroken
    run_strategy(nodes, rounds=5, ledger=ledger, keep_last=2, **settings)
    assert sorted(p.parent.name for p in (ledger.folder / "rounds").rglob("base.safetensors")) == ["004", "005"]
    assert ledger.load_base(5)["w"].tobytes() == unbroken_ledger.load_base(5)["w"].tobytes()
    assert ledger.record(1).base_sha256 == unbroken_ledger.record(1).base_sha256
    with pytest.raises(RunFolderError, match="were removed"):
        ledger.load_base(1)


def test_the_result_of_a_resumed_run_has_the_metrics_of_all_rounds(tmp_path):
    def run(folder, *rounds):
        for number in rounds:
            strategy = ColDFusion(ledger=Ledger.open(tmp_path / folder))
            grid = FakeGrid({100: node("a", 1), 101: node("b", 3)})
            central = lambda server_round, arrays: MetricRecord({"loss": 1 / (1 + server_round), "nan": np.nan})  # noqa: E731
            result = strategy.start(grid, zero_arrays(), num_rounds=number, timeout=5, evaluate_fn=central)
        return result

    resumed, unbroken = run("resumed", 2, 4), run("unbroken", 4)
    for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
        assert sorted(getattr(resumed, name)) == sorted(getattr(unbroken, name)) == [*range(name[0] == "t", 5)]
        assert str(getattr(resumed, name)) == str(getattr(unbroken, name))
    assert resumed.arrays["w"].data == unbroken.arrays["w"].data


def test_fewer_rounds_than_there_are_train_nothing_and_say_so(ledger, caplog):
    nodes = [node("a", 1), node("b", 3)]
    first, *_ = run_strategy(nodes, rounds=3, ledger=ledger)
    again, result, grid = run_strategy(nodes, rounds=2, ledger=Ledger.reopen(ledger.folder))
    assert not trained_nodes(grid)
    assert np.array_equal(first, again)
    assert sorted(result.train_metrics_clientapp) == [1, 2, 3]
    assert "The run has 3 rounds already, and num_rounds is 2" in caplog.text


def test_nodes_without_a_name_are_not_missing_after_a_resume(ledger, caplog):
    for start, rounds in ((100, 1), (200, 3)):  # a simulation's nodes have other IDs in each run
        grid = FakeGrid({start: node("a", 1), start + 1: node("b", 3)})
        strategy = ColDFusion(ledger=Ledger.open(ledger.folder))
        strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=5)
    assert ledger.record(3).missing == []
    assert "Not connected" not in caplog.text
