"""What the dashboard reads of a run folder."""

import json
import math

import pytest
from scored_runs import make_scored_run

from coldfusion_fl.cli.dashboard import live as module
from coldfusion_fl.cli.dashboard.live import LiveRun
from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs import events
from coldfusion_fl.runs.status import run_status


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "run", rounds=4)


@pytest.fixture
def live(ledger, monkeypatch):
    monkeypatch.setattr(module, "_FRESH", 0)
    return LiveRun(ledger.folder, lambda: run_status(ledger).as_json())


def train(ledger, name, *losses, number=1):
    for step, loss in enumerate(losses):
        ledger.emit(events.TrainingStep(round=number, name=name, step=step + 1, steps=len(losses), loss=loss))


def test_the_status_is_that_of_the_command(live, ledger):
    expected, found = run_status(ledger).as_json(), live.status()
    free = "free-bytes"  # changes between the two
    assert expected | {free: 0} == found | {free: 0}


def test_the_rounds_are_those_that_are_saved(live):
    first, second, third = live.snapshot()["rounds"]
    assert [row["outcome"] for row in (first, second, third)] == ["first base", "fused", "base kept"]
    assert second["rejected"] == 1
    assert first["score"] == pytest.approx(140 / 3)


def test_new_events_are_read_behind_the_old_ones(live, ledger):
    ledger.emit(events.RoundStarted(round=1, sampled=["a", "b"]))
    train(ledger, "a", 3.0, 2.0)
    assert live.snapshot()["losses"] == {"a": [[1, 3.0], [1, 2.0]]}
    train(ledger, "a", 1.0)
    found = live.snapshot()
    assert found["losses"]["a"] == [[1, 3.0], [1, 2.0], [1, 1.0]]
    assert len(found["events"]) == 1
    assert "training on a, b" in found["events"][0][1]


def test_a_loss_that_is_reported_once_a_round_is_shown_where_no_steps_are(live, ledger):
    train(ledger, "simulated", 2.0)
    for name in ("simulated", "member"):
        ledger.emit(events.ContributionReceived(round=1, name=name, metrics={"loss": 9.0}))
    assert live.snapshot()["losses"] == {"simulated": [[1, 2.0]], "member": [[1, 9.0]]}


def test_a_resumed_run_keeps_the_losses_of_its_finished_rounds(live, ledger):
    train(ledger, "a", 3.0)
    train(ledger, "a", 2.0, number=2)
    train(ledger, "b", 2.0, number=2)
    ledger.emit(events.RunStarted())
    ledger.emit(events.RoundStarted(round=2, sampled=["a", "b"]))
    assert live.snapshot()["losses"] == {"a": [[1, 3.0]]}
    train(ledger, "b", 1.0, number=2)
    assert live.snapshot()["losses"] == {"a": [[1, 3.0]], "b": [[2, 1.0]]}


def test_problems_are_listed_with_their_reasons(live, ledger):
    ledger.emit(events.ContributionRejected(round=1, name="b", reason="it is <b>not</b> finite"))
    ledger.emit(events.ContributorExcluded(name="b", reason="too many"))
    ledger.emit(events.ScoreFailed(round=1, name="u", reason="no rows"))
    ledger.emit(events.BaseKept(round=1, contributions=0, rejected=1, reason="too few"))
    ledger.emit(events.WorkerReplaced(name="a"))
    ledger.emit(events.ServerUnreachable(reason="no answer"))
    ledger.emit(events.RunFailed(reason="the disk is full"))
    texts = [text for _, text in live.snapshot()["problems"]]
    assert len(texts) == 7
    assert texts[0] == "b, round 1: rejected, it is <b>not</b> finite"
    assert texts[-1] == "the disk is full"


def test_the_log_has_its_last_lines_without_the_codes_of_a_terminal(live, ledger):
    lines = [f"line {number}" for number in range(500)]
    (ledger.folder / "log.txt").write_text("\n".join([*lines, "\x1b[92mINFO\x1b[0m :\tend \x07", "x" * 9000]))
    log = live.snapshot()["log"]
    assert len(log) == 200
    assert log[-2] == "INFO :  end ?"
    assert len(log[-1]) == 2000


def test_bytes_that_are_no_text_are_shown(live, ledger):
    (ledger.folder / "log.txt").write_bytes(b"\xff\xfe end")
    assert live.snapshot()["log"][0].endswith(" end")


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(RunFolderError):
        LiveRun(tmp_path, dict)


def test_numbers_that_json_lacks_are_none(ledger):
    status = run_status(ledger).as_json() | {"bytes": math.nan, "round": math.inf}
    found = LiveRun(ledger.folder, lambda: status).snapshot()
    assert found["status"]["bytes"] is found["status"]["round"] is None
    assert "NaN" not in json.dumps(found, allow_nan=False)


def test_an_answer_is_given_again_for_a_moment(ledger):
    asked = []
    run = LiveRun(ledger.folder, lambda: asked.append(1) or run_status(ledger).as_json())
    for _ in range(5):
        run.snapshot()
    assert len(asked) == 1
