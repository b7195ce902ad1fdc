"""`coldfusion track`."""

import subprocess

from commands import COLDFUSION
from tracked_runs import new_run, read_tensorboard


def track(folder, *words):
    command = [*COLDFUSION, "track", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_run_without_trackers_is_logged_afterwards(tmp_path):
    ledger = new_run(tmp_path / "run")
    assert track(ledger.folder) == (2, f"coldfusion: {ledger.folder}: the run has no trackers. Name one with --to, "
                                       "such as --to tensorboard.\n")  # fmt: skip
    code, output = track(ledger.folder, "--to", "tensorboard", "--to", "trackio")
    assert (code, output.splitlines()[-1]) == (0, "The run is logged to tensorboard, trackio."), output
    metrics, settings, _ = read_tensorboard(ledger.folder / "tracking", ledger)
    assert [step for step, _ in metrics["round/loss"]] == [1, 2]
    assert settings["server.fusion"] == "mean"
    assert (ledger.folder / "tracking" / "trackio" / "coldfusion.db").is_file()


def test_a_tracker_that_cannot_log_ends_the_command_with_its_reason(tmp_path):
    ledger = new_run(tmp_path / "run", uri="http://127.0.0.1:9")
    code, output = track(ledger.folder, "--to", "mlflow")
    assert code == 1
    assert "cannot be logged: MlflowException" in output
    assert "Traceback" not in output
