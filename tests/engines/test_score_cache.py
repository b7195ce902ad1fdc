"""Runs of the same base, of which only the first one computes the base's scores."""

import json

import pytest
from commands import complete_run
from run_folders import same_rounds

from coldfusion_fl.evaluation.score_cache import VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
# The frozen scores of five tasks, and the few-shot score of the unseen one.
SCORES = 6


def reused(ledger):
    return [event for event in ledger.events() if event.kind == "scores-reused"]


def test_a_run_after_one_with_another_operator_has_the_results_of_a_run_that_computes_all(
    finished, toy_run, tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "coldfusion-fl" / "scores"
    other, output = complete_run(toy_run(**{"server.fusion": '"median"'}), tmp_path / "median")
    assert not reused(other)
    assert str(folder) not in output
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(kept) == SCORES

    ledger, output = complete_run(toy_run(), tmp_path / "mean")
    assert sum(len(event.modes) for event in reused(ledger)) == SCORES
    assert {event.round for event in reused(ledger)} == {0}
    # A terminal of 160 columns breaks the line.
    words = " ".join(output.split())
    assert f"{SCORES} scores from an earlier run, cached in" in words
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept

    computed, _ = finished
    assert not reused(computed)
    assert same_rounds(ledger, computed)
    one, two = (json.loads((run.folder / "report.json").read_text()) for run in (ledger, computed))
    for part in ("tasks", "means", "verdict", "rounds", "history"):
        assert one[part] == two[part]
    assert (ledger.folder / "report.csv").read_bytes() == (computed.folder / "report.csv").read_bytes()
