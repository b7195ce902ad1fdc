"""A real simulation that is stopped and resumed, in TensorBoard."""

import signal
import time

import pytest
from commands import complete_run, start_run
from tracked_runs import read_tensorboard

from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.tracking.metrics import round_metrics, score_metrics

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


def stop_after_round(number, process, ledger):
    deadline = time.monotonic() + 300
    try:
        while ledger.rounds()[-1:] < [number]:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_a_stopped_and_resumed_run_is_one_tracked_run(toy_run, tmp_path):
    config = toy_run(rounds="4", **{"tracking.to": '"tensorboard"', "server.compression": '"int8"'})
    folder = tmp_path / "run"
    stop_after_round(1, start_run(config, folder), Ledger(folder))
    ledger = Ledger(folder)
    assert ledger.state.state == "stopped"
    complete_run(config, folder, resume=True)

    metrics, settings, images = read_tensorboard(ledger.folder / "tracking", ledger)
    expected = {}
    for number in ledger.rounds():
        for name, value in (round_metrics(ledger.record(number)) | score_metrics(ledger.load_scores(number))).items():
            expected.setdefault(name, []).append((number, pytest.approx(value, rel=1e-5)))
    assert metrics == expected
    assert [step for step, _ in metrics["mean/frozen/seen"]] == [0, 1, 2, 3, 4]
    assert [step for step, _ in metrics["round/seconds"]] == [1, 2, 3, 4]
    # int8 needs a quarter of the bytes of float32.
    size = sum(array.nbytes for array in ledger.load_base(0).values())
    assert 0.2 * size < metrics["contributor/a/bytes"][0][1] < 0.4 * size
    assert settings["rounds"] == "4"
    assert images == {"figure/scores"}
    assert not [event for event in ledger.events() if event.kind == "tracker-failed"]
