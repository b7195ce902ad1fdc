"""`coldfusion experiment` as a user starts it: whole federations on Flower, small ones."""

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from commands import COLDFUSION

from coldfusion_fl.cli.main import main
from coldfusion_fl.experiments.scores import ScoreFile
from coldfusion_fl.experiments.tables import report

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

TOML = """
title = "A toy"
question = "Does it run?"
seeds = [1]
without."the tiny sets" = "a"
[run]
base = "{base}"
rounds = 2
contributors-per-round = 2
[run.tasks]
catalogue = "{catalogue}"
seen = "a, b, c"
unseen = "u"
[run.finetune]
learning-rate = 3e-3
epochs = 1
examples = 32
max-length = 16
[scoring]
rounds = [1]
[scoring.finetune]
learning-rate = 3e-3
epochs = 1
examples = 30
max-length = 16
[scoring.evaluate]
train-examples = 12
test-examples = 24
shots = 12
few-shot-epochs = 1
few-shot-seeds = 1
[recipes.paper]
about = "as the paper does it"
[recipes.attacked.attacks]
b = "sign-flip(times=1000)"
c = "label-shuffled"
[recipes.attacked]
contributors-per-round = 3
server.screening = "size"
[recipes.multitask]
kind = "multitask"
[recipes.single-task]
kind = "single-task"
[[comparisons]]
of = "attacked"
to = "paper"
"""


def run(folder, *words):
    return subprocess.Popen(
        [*COLDFUSION, "experiment", "toy.toml", "--work", "work", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


@pytest.fixture
def experiment(done, monkeypatch, capsys):
    """Calls `coldfusion experiment` in this process, in the folder of the done one; returns exit code and output."""

    def call(*words):
        handler = signal.getsignal(signal.SIGTERM)
        monkeypatch.chdir(done["folder"])
        monkeypatch.setattr(sys, "argv", ["coldfusion", "experiment", "toy.toml", "--work", "work", *words])
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out + captured.err

    return call


@pytest.fixture
def edit(done):
    """Changes the experiment's file for one test."""
    file = done["folder"] / "toy.toml"
    text = file.read_text()
    yield lambda change: file.write_text(change(text))
    file.write_text(text)


@pytest.fixture(scope="module")
def done(tiny_base, toy_data, tmp_path_factory):
    """An experiment that was interrupted when its first scores were there, and went on to its end."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "toy.toml").write_text(TOML.format(base=tiny_base, catalogue=toy_data / "toy.toml"))
    scores = folder / "results" / "toy" / "scores.json"
    first = run(folder)
    deadline = time.monotonic() + 300
    while not (scores.exists() and "paper" in json.loads(scores.read_text())["scores"]):
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()[0]
        time.sleep(0.05)
    descendants = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    stopped = first.communicate(timeout=60)[0]
    _, alive = psutil.wait_procs(descendants, timeout=10)
    kept = json.loads(scores.read_text())
    for recipe, number in (("base", "0"), ("paper", "2")):  # a score that is made again would not be this one
        mode = next(iter(kept["scores"][recipe]["1"][number].values()))
        mode[next(iter(mode))] = 12.34
    scores.write_text(json.dumps(kept))
    second = run(folder)
    output = second.communicate(timeout=500)[0]
    assert second.returncode == 0, output
    return {
        "folder": folder, "stopped": (first.returncode, stopped, alive), "kept": kept, "output": output,
        "scores": ScoreFile(scores),
    }  # fmt: skip


def test_it_stops_within_seconds_and_tells_how_to_continue(done):
    code, output, alive = done["stopped"]
    assert code == 130
    assert "the same command" in output
    assert not alive


def test_finished_work_is_not_repeated(done):
    kept, scores = done["kept"]["scores"], done["scores"].facts["scores"]
    assert kept["base"] == scores["base"]
    for number, modes in kept["paper"]["1"].items():
        for mode, found in modes.items():
            assert found.items() <= scores["paper"]["1"][number][mode].items()
    assert "round 1/2" not in done["output"].partition("attacked")[0]  # the federation was whole


def test_every_score_is_there(done):
    scores = done["scores"]
    for recipe, numbers in {"base": [0], "paper": [1, 2], "attacked": [1, 2], "multitask": [0]}.items():
        assert scores.rounds(recipe) == numbers
        for number in numbers:
            assert set(scores.at(recipe, 1, number, "finetuned")) == set("abcu")
            assert set(scores.at(recipe, 1, number, "frozen")) == set("abcu")
            assert set(scores.at(recipe, 1, number, "few-shot")) == {"u"}
    assert set(scores.at("single-task", 1, 0, "finetuned")) == set("abc")
    assert scores.facts["tasks"]["u"] == {"metric": "accuracy", "head": "mean", "test-rows": 24}


def test_the_attacker_was_rejected(done):
    making = done["scores"].facts["making"]
    assert making["attacked"]["1"]["rejected"] == 2  # the flipped one, in both rounds
    assert making["paper"]["1"] == {**making["paper"]["1"], "rejected": 0, "examples": 2 * 2 * 32}


def test_the_report_depends_on_the_scores_only(done, experiment):
    out = done["folder"] / "results" / "toy"
    written = (out / "report.md").read_text()
    assert report(ScoreFile(out / "scores.json")) in written
    for picture in ("gains.png", "rounds.png", "sets-attacked.png"):
        assert picture in written
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    (out / "report.md").unlink()
    code, output = experiment("--report")
    assert code == 0
    assert output.endswith("results/toy\n")
    assert (out / "report.md").read_text() == written


def test_a_complete_experiment_has_nothing_to_do(experiment):
    _, output = experiment()
    assert "0 remaining" in output
    assert "seed 1" not in output


def test_new_comparisons_are_reported_without_new_scores(done, experiment, edit):
    out = done["folder"] / "results" / "toy"
    written = (out / "report.md").read_text()
    edit(lambda text: text + '[[comparisons]]\nof = "multitask"\nto = "paper"\n')
    assert experiment()[0] == 0
    assert "multitask over paper" in (out / "report.md").read_text()
    assert report(ScoreFile(out / "scores.json")) in (out / "report.md").read_text()
    edit(lambda text: text)
    assert experiment()[0] == 0
    assert (out / "report.md").read_text() == written


def test_only_the_arrays_of_scored_rounds_are_kept(done):
    rounds = done["folder"] / "work" / "paper" / "seed-1" / "rounds"
    assert sorted(file.parent.name for file in rounds.glob("*/base.safetensors")) == ["001", "002"]


def test_a_changed_recipe_does_not_continue_old_scores(experiment, edit):
    edit(lambda text: text.replace("examples = 32", "examples = 16"))
    code, output = experiment("--plan")
    assert code == 2
    assert "settings.finetune.examples: saved 32, now 16" in output


def test_bases_of_a_changed_recipe_are_not_scored(experiment, edit):
    edit(lambda text: text.replace("examples = 32", "examples = 16"))
    code, output = experiment("--out", "elsewhere", "--only", "paper")
    assert code == 2, output
    assert "settings.finetune.examples: saved 32, now 16" in output


def test_a_round_whose_arrays_were_removed_is_named(done, experiment):
    base = done["folder"] / "work" / "paper" / "seed-1" / "rounds" / "001" / "base.safetensors"
    moved = base.rename(done["folder"] / "moved")
    try:
        code, output = experiment("--out", "further", "--only", "paper")
    finally:
        moved.rename(base)
    assert code == 2, output
    assert "round 1 " in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to share")
def test_a_share_of_a_gpu_needs_a_gpu(experiment):
    code, output = experiment("--gpus", "0.25", "--out", "third", "--work", "third-work")
    assert code == 2
    assert "'simulation.gpus' is 0.25, but PyTorch finds no GPU on this machine" in " ".join(output.split())
