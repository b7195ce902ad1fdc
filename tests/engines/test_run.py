"""`coldfusion run` as a user starts it: a process of its own, watched from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from commands import COLDFUSION, complete_run, start_run
from run_folders import same_rounds

from coldfusion_fl.aggregation.server_optimizer import blend
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.report import summarize

pytestmark = pytest.mark.xdist_group("ray")


def wait_for(ledger, kind, process, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(event.kind == kind for event in ledger.events()):
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    pytest.fail(f"there was no event '{kind}' in {seconds} s")


def run_until(config, folder, kind):
    """A run that has come to its first event of a kind, its ledger, and all the processes it has started."""
    process, ledger = start_run(config, folder), Ledger(folder)
    wait_for(ledger, kind, process)
    return process, ledger, psutil.Process(process.pid).children(recursive=True)


def gone(processes, seconds):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_the_output_shows_progress_and_results(finished):
    ledger, output = finished
    for part in (
        "4 contributors connected and 1 unseen task for evaluation only",
        "round 1/2:",
        "round 2/2:",
        "fused 3 contributions",
        "mean of seen tasks",
        "mean of unseen tasks",
        "/model",
        "coldfusion evaluate",
        "Peak memory",
    ):
        assert part in output
    assert "INFO" not in output  # the log is a file
    assert "ColDFusion" in (ledger.folder / "log.txt").read_text()


def test_the_run_folder_is_complete(finished):
    ledger, _ = finished
    names = {path.name for path in ledger.folder.iterdir()}
    expected = {
        "run.json",
        "SHA256SUMS",
        "status.json",
        "progress.jsonl",
        "log.txt",
        "rounds",
        "model",
        "report.json",
        "report.csv",
        "scores.png",
        "report.html",
        "nodes",
    }
    assert names == expected
    assert ledger.rounds() == [0, 1, 2]
    assert ledger.state.state == "finished"
    assert ledger.load_scores(2).keys() == {"a", "b", "c", "d", "u"}
    assert "few-shot" in ledger.load_scores(2)["u"]
    assert "training-step" in {event.kind for event in ledger.events()}


def test_every_difference_has_an_interval(finished):
    ledger, output = finished
    summary = summarize(ledger)
    assert {row["task"] for row in summary["tasks"] if row["frozen-low"] is not None} == {"a", "b", "c", "d", "u"}
    means = {row["task"]: row for row in summary["means"]}
    for row, mode in (("mean of seen tasks", "frozen"), ("mean of unseen tasks", "few-shot")):
        low, difference, high = (means[row][f"{mode}-{which}"] for which in ("low", "difference", "high"))
        assert low <= difference <= high
    assert [entry["round"] for entry in summary["history"]] == ledger_rounds_with_scores(ledger)
    assert summary["history"][-1]["seen"]["low"] == means["mean of seen tasks"]["frozen-low"]
    assert "not other seeds or other tasks" in " ".join(output.split())
    # Only predictions are kept, and only on the machine of the node.
    assert {path.name for path in (ledger.folder / "nodes" / "u").iterdir()} == {
        "first-base-frozen-000.safetensors",
        "first-base-few-shot-000.safetensors",
    }


def ledger_rounds_with_scores(ledger):
    return [number for number in ledger.rounds() if ledger.load_scores(number)]


def test_the_model_loads_in_another_python_with_the_last_bases_numbers(finished):
    ledger, _ = finished
    code = f"""
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained({str(ledger.folder / "model")!r})
tokenizer = AutoTokenizer.from_pretrained({str(ledger.folder / "model")!r})
base = load_file({str(ledger.round_folder(2) / "base.safetensors")!r})
state = model.state_dict()
assert base and all(state[name].numpy().tobytes() == array.tobytes() for name, array in base.items())
assert model(**tokenizer("a cat", return_tensors="pt")).last_hidden_state.isfinite().all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    card = (ledger.folder / "model" / "README.md").read_text()
    assert "2 rounds from the base" in card
    assert (ledger.folder / "model" / "1_Pooling" / "config.json").is_file()


def resume(ledger):
    done = subprocess.run(
        [*COLDFUSION, "run", "--resume", str(ledger.folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_ctrl_c_stops_within_seconds_and_leaves_nothing_behind(toy_run, tmp_path):
    process, ledger, family = run_until(toy_run(rounds="200"), tmp_path / "run", "round-started")
    assert any("raylet" in " ".join(p.cmdline()) for p in family if p.is_running())
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    seconds = time.monotonic() - began
    assert process.returncode == 130
    assert seconds < 15, seconds
    assert "Stopped after round" in output
    assert ledger.state.state == "stopped"
    assert ledger.state.last_round == ledger.rounds()[-1] < 200
    assert not gone(family, 5)
    assert not list((ledger.folder / "rounds").glob(".*"))


@pytest.fixture(scope="module")
def stateful(write_toy_run, tmp_path_factory):
    """A whole run whose server and contributors keep something from round to round, with every option of the server."""
    folder = tmp_path_factory.mktemp("stateful")
    config = write_toy_run(
        folder / "toy.toml",
        **{
            "finetune.keep-head": "true",
            "server.compression": '"int8"',
            "server.fusion": '"fisher"',
            "server.server-optimizer": '"nesterov(learning-rate=0.5)"',
            "server.screening": '"size, greedy-soup(tolerance=100), influence-cap"',
            "server.server-validation": '"u"',
            "server.rollback": "100",
            "server.ema": "0.9",
            "server.blend": "0.5",
            "server.fisher-examples": "8",
        },
    )
    return complete_run(config, folder / "run")[0]


@pytest.mark.slow
def test_a_run_with_every_option_of_the_server(stateful, tiny_base):
    assert stateful.rounds() == [0, 1, 2]
    record = stateful.record(2)
    assert record.fused
    assert record.server_validation.after is not None
    assert record.settings.fusion.startswith("fisher")
    assert {path.name for path in stateful.round_folder(2).glob("*.safetensors")} == {
        "base.safetensors",
        "optimizer.safetensors",
        "average.safetensors",
    }
    blended = blend(load_encoder(open_base(str(tiny_base))), stateful.load_average(2), 0.5)
    for name, arrays in (("model", blended), ("last-base", stateful.load_base(2))):
        saved = load_encoder(open_base(str(stateful.folder / name)))
        assert all(saved[key].tobytes() == array.tobytes() for key, array in arrays.items()), name
        assert encoder_hash(arrays) in (stateful.folder / name / "README.md").read_text()


@pytest.mark.slow
def test_kill_9_of_the_command_ends_the_simulation_and_the_run_can_be_resumed(stateful, tmp_path):
    process, ledger, family = run_until(stateful.folder.parent / "toy.toml", tmp_path / "run", "round-fused")
    process.kill()
    process.wait()
    assert not gone(family, 30)
    resume(ledger)
    assert ledger.state.state == "finished"
    assert same_rounds(ledger, stateful)
    assert "Nothing to do" in resume(ledger)


@pytest.mark.slow
def test_a_run_that_dies_is_a_failed_run(toy_run, tmp_path):
    process, ledger, family = run_until(toy_run(), tmp_path / "run", "nodes-connected")
    child = next(p for p in family if "coldfusion_fl.execution.worker" in " ".join(p.cmdline()))
    os.kill(child.pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the run failed" in output
    assert "log.txt" in output
    assert ledger.state.state == "failed"
    assert not gone(family, 10)


@pytest.mark.long
def test_endless_trainings_do_not_block_the_end_of_the_run(toy_run, tmp_path):
    endless = {"finetune.epochs": "1000000", "finetune.patience": "1e9", "round-timeout": "5", "rounds": "1"}
    process, ledger, family = run_until(toy_run(**endless), tmp_path / "run", "round-started")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "REJECTED, it did not answer within 5 s" in output
    assert "the base is KEPT: 0 contributions passed the screening, but min-contributions is 2" in output
    assert "the run failed: no round fused anything" in output
    assert ledger.state.state == "failed"
    assert not gone(family, 10)


def test_relative_paths_start_from_the_settings_file(toy_data, tiny_base, tmp_path):
    from coldfusion_fl.cli.run import resolve_paths
    from coldfusion_fl.config.parsing import read_settings

    home = tmp_path / "home"
    home.mkdir()
    (home / "model").symlink_to(tiny_base)
    file = home / "run.toml"
    file.write_text(
        'base = "model"\n[tasks]\ncatalogue = "mine.toml, packaged"\ndata-root = "data"\nseen = "a,b,c,d,e,f,g,h"'
    )
    settings = resolve_paths(read_settings(file), file)
    assert settings.base == str(home / "model")
    assert settings.tasks.catalogue == (str(home / "mine.toml"), "packaged")
    assert Path(settings.tasks.data_root) == home / "data"
