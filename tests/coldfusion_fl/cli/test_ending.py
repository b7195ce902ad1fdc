"""What `coldfusion run` prints when a run is complete."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
from scored_runs import MADE, make_scored_run, scored

from coldfusion_fl.cli.ending import describe_exchange, evaluate_command, show_result
from coldfusion_fl.config.settings import Settings, TaskSettings
from coldfusion_fl.config.tables import split_names, to_table
from coldfusion_fl.execution.run_paths import resume_command
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, RejectionRecord, RoundRecord, UpdateFacts
from coldfusion_fl.runs.report import summarize


def options(command):
    """The words of a command after `coldfusion evaluate`, as a shell reads them: the model, and the options."""
    script = "import sys; print('\\0'.join(sys.argv[1:]), end='')"
    words = subprocess.run(
        ["sh", "-c", command.replace("coldfusion", f'{shlex.quote(sys.executable)} -c {shlex.quote(script)}', 1)],
        capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    assert words[0] == "evaluate"
    return words[1], dict(zip(words[2::2], words[3::2], strict=True))


def made_run(tmp_path, name="run", **tasks):
    return make_scored_run(tmp_path / name, tasks=to_table(TaskSettings(**tasks)))


@pytest.mark.parametrize("folder", ["run", "my run", "a'b", "$HOME", "[x]"])
@pytest.mark.parametrize("task", ["u", "movie reviews", "it's", "a,b", "[bold]", "$(id)", "`id`", "a;b"])
def test_the_hint_names_an_unseen_task_of_the_run(tmp_path, folder, task):
    ledger = made_run(tmp_path, folder, seen=("a",), unseen=(task, "v"))
    model, given = options(evaluate_command(ledger, ledger.folder / "model"))
    assert model == str(ledger.folder / "model")
    assert split_names(given.pop("--tasks")) == (task,)
    assert given == {"--mode": "few-shot"}


def test_the_hint_names_a_seen_task_and_the_catalogue_and_the_data(tmp_path):
    catalogues = (str(tmp_path / "my tasks, mine.toml"), "packaged")
    ledger = made_run(tmp_path, seen=("a", "b"), catalogue=catalogues, data_root="/my data")
    _, given = options(evaluate_command(ledger, tmp_path))
    assert split_names(given["--catalogue"]) == catalogues
    assert (given["--tasks"], given["--data-root"]) == ("a", "/my data")


def test_the_hint_of_a_federation_leaves_the_task_to_the_reader(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {"tasks": to_table(TaskSettings(seen=("a",)))}, federation="/acme")
    assert evaluate_command(ledger, tmp_path / "m m").endswith("m m' --mode few-shot --tasks TASK --catalogue FILE")


def test_the_result_has_paths_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ledger = made_run(tmp_path, "[red] :cat:", seen=("a",))
    (ledger.folder / "report.json").touch()
    show_result(ledger)
    out = capsys.readouterr().out
    for part in (
        "[red] :cat:/model\n",
        "[red] :cat:/report.html, report.json\n",
        "'[red] :cat:/model')",
        "Round 2 kept its base",
    ):
        assert part in out
    assert "last-base" not in out


def test_names_in_the_table_are_shown_as_they_are(tmp_path, capsys):
    ledger = made_run(tmp_path, seen=("a",))
    for number in (0, 2):
        ledger.save_scores(number, {"[red]:cat:|x": scored(50.0)})
    show_result(ledger)
    assert "[red]:cat:|x" in capsys.readouterr().out


def test_a_run_without_scores_has_no_table(tmp_path, capsys):
    ledger = Ledger.create(tmp_path / "run", {"tasks": to_table(TaskSettings(seen=("a",))), "evaluate": {"every": -1}})
    ledger.save_round({"w": np.zeros(2, np.float32)}, RoundRecord(round=0, settings=MADE))
    show_result(ledger)
    out = capsys.readouterr().out
    assert "The run has no scores" in out
    assert "first base → fused" not in out


def test_the_command_to_resume_is_quoted_for_a_shell(tmp_path):
    ledger = Ledger.create(tmp_path / "my $run", {})
    assert shlex.split(resume_command(ledger)) == ["coldfusion", "run", "--resume", str(ledger.folder)]


def test_the_ending_says_what_was_shared_and_what_was_not(tmp_path):
    ledger = made_run(tmp_path, seen=("a", "b"), unseen=("u",))
    rejected = [
        RejectionRecord(name="b", reason="too large", facts=UpdateFacts(norm=9, reported={"num-examples": 32})),
        RejectionRecord(name="c", reason="it did not answer", received=False),
    ]
    fused = {name: ContributionRecord(norm=1, share=0.5, reported={"num-examples": 640}) for name in ("a", "d")}
    base = {"w": np.zeros(250_000, np.float32)}
    ledger.save_round(base, RoundRecord(round=3, contributions=fused, rejected=rejected, fused=True, settings=MADE))
    # Round 1 of the run has a contribution of `a`, and a rejected one of `b`.
    assert describe_exchange(ledger, summarize(ledger)) == [
        "Shared: 5 contributions of 3 contributors, each of 1.0 MB. They are encoder weights. Losses, scores and "
        "counts were reported with them.",
        "Not shared: the rows of the tasks (1,312 examples trained on, 440 scored), the heads and the predictions.",
    ]


def test_a_compressed_contribution_is_smaller_than_the_base(tmp_path):
    ledger = make_scored_run(tmp_path / "run", server={"blend": 1.0, "compression": "int8"})
    assert "before the compression to int8" in describe_exchange(ledger, summarize(ledger))[0]


def test_the_ending_says_that_the_embeddings_were_not_shared(tmp_path):
    ledger = make_scored_run(tmp_path / "run", finetune={"freeze": "embeddings"})
    shared = describe_exchange(ledger, summarize(ledger))[0]
    assert "They are encoder weights, without the word embeddings, which are frozen. " in shared


def test_the_ending_says_what_is_better_and_what_is_worse(tmp_path, capsys):
    ledger = made_run(tmp_path, seen=("a", "b"), unseen=("u",))
    error = {"frozen-difference-error": 1.0}
    ledger.save_scores(2, {"a": scored(64.0, **error), "b": scored(50.0, rows=40, **error)})
    show_result(ledger)
    out = capsys.readouterr().out
    assert "\nNo difference beyond chance on the 2 seen tasks: +2.0 points" not in out
    assert "\nBetter on the 2 seen tasks: +2.0 points [+0.6, +3.4] frozen.\n" in out
    assert "\nWorse on b: −10.0 points [−12.0, −8.0] frozen.\n" in out


def test_the_ending_of_a_federation_names_the_file_with_what_is_not_known_here(tmp_path, capsys):
    ledger = make_scored_run(tmp_path / "run")
    assert "own.toml" in printed(ledger, capsys)
    facts = {**ledger.settings, "evaluate": {"every": -1}}
    other = Ledger.create(tmp_path / "other", facts, federation="/acme")
    other.save_round({"w": np.zeros(2, np.float32)}, RoundRecord(round=0, settings=MADE))
    out = printed(other, capsys)
    assert "TASK and FILE stand in the member's member.toml" in out
    assert "mine.toml" not in out


def printed(ledger, capsys):
    show_result(ledger)
    return capsys.readouterr().out


def test_the_result_names_excluded_contributors_once_each(tmp_path, capsys):
    ledger = Ledger.create(tmp_path / "run", to_table(Settings(base="b", rounds=2, tasks=TaskSettings(seen=("a",)))))
    for number in range(3):
        excluded = {"c": "it has another base"} if number else {}
        ledger.save_round({"w": np.zeros(2, np.float32)}, RoundRecord(round=number, excluded=excluded))
    show_result(ledger)
    assert "Excluded in 2 rounds: c, it has another base\n" in capsys.readouterr().out


def test_the_result_names_a_bounded_number_of_excluded_nodes(tmp_path, capsys):
    ledger = Ledger.create(tmp_path / "run", to_table(Settings(base="b", rounds=1, tasks=TaskSettings(seen=("a",)))))
    for number in range(2):
        excluded = {f"node-{100 + one}": "another base" for one in range(25)} if number else {}
        ledger.save_round({"w": np.zeros(2, np.float32)}, RoundRecord(round=number, excluded=excluded))
    out = printed(ledger, capsys)
    assert out.count("Excluded in 1 round: ") == 20
    assert "5 more exclusions: see coldfusion log." in out
