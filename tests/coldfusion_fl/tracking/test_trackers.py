"""Each tracker for real: what it has written, read with its own classes."""

import pytest
from tracked_runs import READERS, add_round, new_run

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.tracking.metrics import round_metrics, score_metrics
from coldfusion_fl.tracking.registry import TRACKERS
from coldfusion_fl.tracking.track import log_run


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """The folder of all trackers: trackio works in one folder for each process. Its name needs quoting in an URI."""
    return tmp_path_factory.mktemp("trackers") / "shared 100%"


@pytest.fixture(params=sorted(TRACKERS))
def tracker(request):
    return request.param


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")


def settings_of(tracker, folder):
    return TrackingSettings(to=(tracker,), folder=str(folder), offline=True)


def expected_metrics(ledger):
    values = {}
    for number in ledger.rounds():
        for name, value in (round_metrics(ledger.record(number)) | score_metrics(ledger.load_scores(number))).items():
            values.setdefault(name, []).append((number, pytest.approx(value)))
    return values


def draw_figure(ledger):
    from matplotlib.figure import Figure

    Figure(figsize=(1, 1)).savefig(ledger.folder / "scores.png")


def test_a_run_is_logged_and_goes_on_in_the_same_tracked_run(tracker, shared, tmp_path):
    ledger, settings = new_run(tmp_path / f"run <{tracker}>"), settings_of(tracker, shared)
    log_run(ledger, settings)
    metrics, config, images = READERS[tracker](shared, ledger)
    assert metrics == expected_metrics(ledger)
    assert (config["server.fusion"], config["rounds"]) == ("mean", "2")
    assert not images

    # The run resumes with other settings, is logged by another process, and ends.
    resumed = Ledger.resume(ledger.folder, ledger.settings | {"rounds": 3})
    add_round(resumed)
    draw_figure(resumed)
    resumed.state_file.finished()
    log_run(resumed, settings)
    log_run(resumed, settings)  # nothing is left
    metrics, config, images = READERS[tracker](shared, ledger)
    assert metrics == expected_metrics(resumed)
    assert [step for step, _ in metrics["round/loss"]] == [1, 2, 3]
    assert config["rounds"] == "3"
    assert images == {"figure/scores"}


# Only the server of W&B knows what it has; it shows the later one of two values of a round.
@pytest.mark.parametrize("tracker", sorted(TRACKERS.keys() - {"wandb"}))
def test_a_round_is_logged_once_if_the_process_was_killed_before_it_noted_that(tracker, shared, tmp_path):
    ledger, settings = new_run(tmp_path / f"killed {tracker}", rounds=1), settings_of(tracker, shared)
    log_run(ledger, settings)
    file = ledger.folder / "tracking" / f"{tracker}.json"
    before = file.read_text()
    add_round(ledger)
    log_run(ledger, settings)
    file.write_text(before)
    add_round(ledger)
    log_run(ledger, settings)
    assert READERS[tracker](shared, ledger)[0] == expected_metrics(ledger)


def test_all_is_logged_again_to_another_place(tmp_path):
    ledger = new_run(tmp_path / "run", rounds=1)
    for place in ("one", "other"):
        log_run(ledger, settings_of("tensorboard", tmp_path / place))
        assert READERS["tensorboard"](tmp_path / place, ledger)[0] == expected_metrics(ledger)


def test_the_files_are_in_the_run_folder_by_default(tmp_path):
    ledger = new_run(tmp_path / "run", rounds=1)
    log_run(ledger, TrackingSettings(to=("tensorboard", "mlflow")))
    for tracker in ("tensorboard", "mlflow"):
        assert READERS[tracker](ledger.folder / "tracking", ledger)[0] == expected_metrics(ledger)


def test_mlflow_takes_a_database(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ledger = new_run(tmp_path / "run", rounds=1)
    draw_figure(ledger)
    ledger.state_file.finished()
    log_run(ledger, TrackingSettings(to=("mlflow",), uri=uri))
    client = MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name("coldfusion").experiment_id])
    assert run.data.metrics["contributor/a/norm"] == 4.0
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "figures")] == ["figures/scores.png"]
    assert {path.name for path in tmp_path.iterdir()} == {"run", "mlflow.db"}  # nothing in the working folder
