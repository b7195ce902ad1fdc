"""The yardstick's parts at a size that says nothing, to see that they run."""

import json

import pytest
import torch
from typer.testing import CliRunner

from coldfusion_fl.experiments.bench import (
    compression,
    frozen,
    gpu,
    memory,
    preflight,
    rounds,
    start,
    table,
    training,
    training_scores,
)
from coldfusion_fl.model.base import open_base

pytestmark = pytest.mark.xdist_group("ray")

SMALL = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def test_a_row_has_the_median_of_its_turns_and_a_goal():
    row = table.Row("ours", "theirs", [3.0, 1.0, 2.6], ">= 2.5", "times faster")
    assert row.median == 2.6
    assert row.is_met
    assert not table.Row("ours", "theirs", [1.2, 1.0], "<= 1.08", "times").is_met
    assert table.Row("ours", "theirs", [1.2], "", "times").is_met is None


def test_the_written_file_has_the_rows_and_the_measurements(tmp_path):
    rows = [table.Row("ours", "theirs", [2.0], ">= 1", "times faster")]
    table.write(rows, {"part": {"seconds": 1}}, tmp_path / "new" / "result.json")
    found = json.loads((tmp_path / "new" / "result.json").read_text())
    assert found["rows"][0]["met"] is True
    assert found["details"] == {"part": {"seconds": 1}}
    assert found["versions"]["flwr"]


def test_an_unknown_part_is_named(tmp_path):
    import typer

    from coldfusion_fl.experiments.bench.__main__ import main

    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [str(tmp_path / "r.json"), "--part", "traning"])
    assert done.exit_code == 2
    assert "no part 'traning'" in done.output


def test_four_ways_to_train():
    rows, found = training.training(turns=1, examples=16, names=("movie_sentiment",))
    assert [len(row.figures) for row in rows] == [1] * 5
    assert found["seconds"][0]["movie_sentiment"].keys() == {"trainer", "tuned", "loop", "ours"}


def test_ways_to_a_frozen_score():
    (row,), found = frozen.frozen(turns=1, rows=16)
    assert row.median == found[0]["trainer"] / found[0]["ours"]


def test_bytes_on_the_wire():
    rows, _ = compression.encoded()
    assert all(row.is_met for row in rows)


def test_training_scores_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(training_scores, "TASKS", ("movie_sentiment",))
    monkeypatch.setattr(training_scores, "TRIED", [("ours", 5e-5, 16)])
    monkeypatch.setattr(training_scores, "EXAMPLES", 16)
    monkeypatch.setattr("sys.argv", ["scores", str(tmp_path / "scores.jsonl"), "0"])
    for _ in range(2):
        training_scores.main()
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert 0 <= json.loads(lines[0])["score"] <= 100


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path):
    reference = gpu.write_base(tmp_path / "base", **SMALL)
    found = gpu.throughput(open_base(reference), 16, 8, compiled=False)
    # On a busy machine, three epochs of these few rows can take less time than one.
    assert isinstance(found["examples-a-second"], float)
    assert found["flops-utilisation"] is None  # nothing says what a processor could do at most
    work = training.Work(open_base(reference), gpu.load_task(gpu.TASK), None)
    # One layer: 4 size² + 2 size · intermediate, biases and norms; the pooler comes to size² and a bias.
    weights = 4 * 32 * 32 + 2 * 32 * 64 + (4 * 32 + 64 + 32 + 4 * 32)
    assert training.flops(work.model(), [10]) == 6 * weights * 10 + 12 * 32 * 100


@pytest.mark.long
def test_compiled_layers_learn_the_same(tmp_path):
    undropped = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    base = open_base(gpu.write_base(tmp_path / "base", **SMALL | undropped | {"num_hidden_layers": 2}))
    task = gpu.load_task(gpu.TASK)
    work = training.Work(base, task, task.train.draw(8, [0]), batch_size=4, max_length=32)
    plain, compiled = work.model(), work.model()
    gpu.compile_layers(compiled)
    for model in (plain, compiled):
        training.ours(model, work)
    assert compiled.roberta.encoder.layer[1]._compiled_call_impl is not None
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.long
def test_a_round_against_its_training_alone():
    rows, found = rounds.rounds(turns=1, examples=16, names=("movie_sentiment", "election_tweets"))
    assert rows[0].median > 0
    assert found[0]["round"] > 0


@pytest.mark.long
def test_a_start_and_the_processor_time_of_its_processes():
    rows, (found,) = start.start(turns=1, examples=16, names=("movie_sentiment", "election_tweets"))
    assert rows[0].median < rows[1].median
    assert {"workers", "run process", "Ray's own"} <= found["training"]["processor"].keys()
    assert all(seconds <= found["end"]["processor"][kind] for kind, seconds in found["training"]["processor"].items())


@pytest.mark.long
def test_a_start_with_and_without_checks():
    rows, found = preflight.preflight(turns=1, names=("movie_sentiment", "election_tweets"))
    assert len(rows[0].figures) == 1
    assert found[0].keys() == {"checked", "unchecked"}


@pytest.mark.long
def test_memory_and_a_shared_device(tmp_path):
    rows, found = memory.memory(counts=(8, 9))
    assert rows[0].median > 0.5
    assert all(run["start-up"] > 0 for run in found.values())
    seconds = gpu.shared(gpu.write_base(tmp_path / "base", **SMALL), 16, 2)
    assert all(value > 0 for value in seconds.values())
