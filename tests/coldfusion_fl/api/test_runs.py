"""A federation of tasks in memory, from Python."""

import os
import shutil
import stat

import pytest

import coldfusion_fl as cf
from coldfusion_fl.api import executing
from coldfusion_fl.errors import CatalogueError, ErrorCode, ModelError, RunFolderError, SettingsError
from coldfusion_fl.runs.ledger import Ledger

pytestmark = pytest.mark.xdist_group("ray")

SETTINGS = {
    "rounds": 1,
    "seed": 3,
    "finetune": {"learning_rate": 1e-3, "epochs": 1, "examples": 32, "max_length": 16},
    "evaluate": {"train_examples": 30, "test_examples": 24, "shots": 12, "few_shot_epochs": 1, "few_shot_seeds": 1},
}


@pytest.fixture(scope="module")
def lines():
    """What the run said."""
    return []


@pytest.fixture(scope="module")
def start(tasks, toy_data, tiny_base, lines):
    """Starts a run of three tasks in memory, with an unseen one of a catalogue."""

    def start(folder, given=tasks, **changes):
        settings = {"unseen": ["u"], "base": tiny_base, "catalogue": toy_data / "toy.toml", **SETTINGS, **changes}
        return cf.run(given, out=folder, progress=lines.append, **settings)

    return start


@pytest.fixture(scope="module")
def run(start, tmp_path_factory):
    return start(tmp_path_factory.mktemp("api") / "run")


def test_a_run_of_tasks_in_memory(run, lines):
    assert repr(run) == f"Run('{run.folder}'): finished, round 1 of 1"
    assert run.settings.tasks.seen == ("my-a", "my-b", "my-d")
    assert run.settings.contributors_per_round == 3
    assert run.records["fused"].tolist() == [False, True]
    assert set(run.contributions["name"]) == {"my-a", "my-b", "my-d"}
    assert run.contributions["share"].sum() == pytest.approx(1)
    assert (run.contributions["examples"] == 32).all()
    for line in ("Checking the base and the tasks", "  fused 3 contributions"):
        assert line in lines


def test_its_scores_are_tables(run):
    scores, gains = run.scores, run.gains
    assert set(scores["round"]) == {0, 1}
    assert set(scores["mode"]) == {"frozen", "few-shot"}
    assert scores.query("task == 'u'")["seen"].eq(False).all()
    row = gains.query("task == 'u' and mode == 'frozen'").iloc[0]
    both = scores.query("task == 'u' and mode == 'frozen'").set_index("round")["score"]
    assert (row["base"], row["fused"]) == (both[0], both[1])
    assert "mean of all tasks" in set(gains["task"])
    assert any("seen tasks" in sentence for sentence in run.verdict)


def test_the_rows_are_in_its_folder_and_private(run, tasks):
    folder = run.folder / "tasks"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    read = cf.load_task("my-a", folder / "catalogue.toml")
    assert (read.train.texts, read.classes) == (tasks[0].train.texts, tasks[0].classes)


def test_it_is_a_path_of_its_model(run):
    assert (run.model / "model.safetensors").exists()
    assert cf.load_base(run).base.folder == run.model
    assert run.status().state == "finished"
    assert [base.record.round for base in run.lineage(check=True)] == [0, 1]


def test_a_complete_run_is_returned_at_once(run, start, lines):
    before = len(lines)
    assert start(run.folder, resume=True).folder == run.folder
    assert len(lines) == before


def test_other_rows_are_another_run(run, start, tasks, rows):
    changed = cf.Task.from_dataframe(rows("c"), "my-b")
    with pytest.raises(RunFolderError, match="'my-b' has other rows") as error:
        start(run.folder, [tasks[0], changed, tasks[2]], resume=True)
    assert error.value.code == ErrorCode.RUN_CHANGED


def test_other_settings_are_another_run(run, start):
    with pytest.raises(RunFolderError, match=r"seed: saved 3, now 4"):
        start(run.folder, seed=4, resume=True)
    with pytest.raises(RunFolderError, match="holds another run already"):
        start(run.folder)
    assert (run.folder / "tasks" / "catalogue.toml").exists()


def test_rounds_are_added_from_the_folder_alone(run, tmp_path, lines):
    with pytest.raises(SettingsError, match="unknown setting 'roundz'"):
        run.resume(roundz=2)
    longer = run.resume(rounds=2, progress=lines.append)
    assert longer.records.index.tolist() == [0, 1, 2]
    assert longer.status().state == "finished"


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"roundz": 2}, SettingsError, r"run\(\): unknown setting 'roundz'. Did you mean 'rounds'"),
        ({"finetune": {"epoch": 1}}, SettingsError, "unknown setting 'finetune.epoch'"),
        ({"server": {"fusion": "meen"}}, SettingsError, "meen"),
        ({"unseen": ["nope"]}, CatalogueError, "unknown task 'nope'"),
        ({"unseen": ["my-a"]}, SettingsError, "twice"),
        ({"unseen": [3]}, SettingsError, "a task is a Task or the name of one"),
        ({"data_root": "/data"}, SettingsError, "'data_root' is for tasks that are given by their names"),
        ({"tasks": {}}, SettingsError, "give the tasks as 'seen' and 'unseen'"),
        ({"base": 3}, SettingsError, "a model is a folder"),
    ],
)
def test_a_mistake_leaves_nothing(start, tmp_path, changes, kind, message):
    with pytest.raises(kind, match=message):
        start(tmp_path / "new" / "run", **changes)
    assert not (tmp_path / "new" / "run").exists()


def test_a_failed_check_leaves_nothing(start, tmp_path):
    with pytest.raises(ModelError, match="there is no config.json"):
        start(tmp_path / "run", base=tmp_path)
    assert not (tmp_path / "run").exists()


def test_tasks_of_a_start_that_was_killed_are_replaced(run, start, tmp_path):
    shutil.copytree(run.folder / "tasks", tmp_path / "run" / "tasks")
    with pytest.raises(SettingsError, match="meen"):
        start(tmp_path / "run", server={"fusion": "meen"})
    assert not any((tmp_path / "run").iterdir())


def test_an_empty_folder_of_the_user_stays(start, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir(mode=0o750)
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(SettingsError, match="meen"):
        start(".", server={"fusion": "meen"})
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o750
    assert not any((tmp_path / "mine").iterdir())


def test_a_folder_with_other_files_stays_as_it_is(start, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.txt").touch()
    with pytest.raises(RunFolderError, match="is not empty"):
        start(tmp_path)
    assert (tmp_path / "tasks" / "mine.txt").exists()


def test_an_interrupted_run_says_so_and_can_be_resumed(run, tmp_path, monkeypatch):
    shutil.copytree(run.folder, tmp_path / "run")

    class Interrupted:
        def __init__(self, *args):
            self.exit_code = None

        def __enter__(self):
            return self

        def start(self, *args):
            pass

        __exit__ = stop = start

        def wait_for_checks(self):
            return []

        def events(self):
            raise KeyboardInterrupt
            yield

    monkeypatch.setattr(executing, "RunProcess", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        cf.Run(tmp_path / "run").resume(rounds=9, progress=None)
    state = Ledger(tmp_path / "run").state
    assert (state.state, state.reason) == ("stopped", "it was interrupted")


def test_a_folder_without_a_run_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match="not a run folder"):
        cf.Run(tmp_path)


def test_a_run_is_a_path(run):
    assert os.fspath(run) == str(run.folder)
