"""The checks of a simulation's tasks, by its nodes; here the nodes are in this process."""

import pytest
from fake_grid import FakeGrid, set_task_identity
from flwr.app import Context, Error, RecordDict
from flwr.common.constant import ErrorCode as FlowerErrorCode

from coldfusion_fl.clients import node_settings
from coldfusion_fl.config.parsing import parse_settings, read_settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.data import task
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.engines import simulated_preflight
from coldfusion_fl.engines.simulated_preflight import check_task, check_tasks
from coldfusion_fl.engines.simulation_engine import SimulationEngine
from coldfusion_fl.errors import DataError, ErrorCode, RunError
from coldfusion_fl.preflight import task_check
from coldfusion_fl.preflight.task_check import TaskCheck, TaskChecker
from coldfusion_fl.runs.ledger import Ledger

KILLED = Error(FlowerErrorCode.UNKNOWN, "<class 'ray.exceptions.ActorUnavailableError'>:<'The actor is unavailable'>")


@pytest.fixture
def check(toy_run, monkeypatch):
    """Checks the tasks of a toy run; the workers of the tasks in `killed` are killed each time."""
    monkeypatch.setattr(node_settings, "is_simulated", lambda: True)
    set_task_identity()

    def check(progress=lambda line: None, killed=(), **changes):
        settings = read_settings(toy_run(**changes))
        run_config = flatten(to_table(settings))

        def node(number, name):
            context = Context(1, number, {"partition-id": number}, RecordDict(), run_config)
            return lambda message: KILLED if name in killed else check_task(message, context).content

        nodes = {number + 2: node(number, name) for number, name in enumerate(settings.task_names)}
        return check_tasks(FakeGrid(nodes), settings, progress)

    yield check
    simulated_preflight._task_checker.cache_clear()


def test_each_task_is_checked_and_the_memory_is_measured(check):
    lines = []
    findings = check(lines.append)
    assert findings.notes.keys() == findings.node_ids.keys() == {"a", "b", "c", "d", "u"}
    assert [findings.node_ids[name] for name in "abcdu"] == [2, 3, 4, 5, 6]
    assert findings.worker_memory > 50 << 20
    assert "5 of 5" in lines[-1]


def test_rows_that_have_changed_since_a_run_began_are_warned_of(check, tmp_path):
    engine, ledger = SimulationEngine(), Ledger.create(tmp_path / "run", {})
    assert engine._compare_rows(tmp_path / "a new run") == []
    hashes = check().rows_hashes
    ledger.note_rows(hashes)
    for changes, warnings in (({}, 0), ({"b": "another"}, 1)):
        engine._rows_hashes = hashes | changes
        assert len(engine._compare_rows(ledger.folder)) == warnings
    ledger.note_rows(hashes | {"b": "another"})
    assert ledger.rows_hashes == hashes  # those of the start


def test_all_tasks_that_cannot_be_trained_on_are_named_in_their_order(check, tmp_path, toy_data):
    lines = [f'[tasks.{name}]\nfolder = "{toy_data / name}"\n' for name in "acu"]
    for name, text in (("b", "a cat"), ("d", "")):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{text}", "label": "x"}}\n' * 9)
        lines.append(f'[tasks.{name}]\ntrain = "{tmp_path / name}.jsonl"\n')
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    with pytest.raises(DataError) as error:
        check(**{"tasks.catalogue": f'"{tmp_path / "mine.toml"}"'})
    first, second = str(error.value).splitlines()
    assert "task 'b'" in first
    assert "task 'd'" in second


def test_of_the_shards_of_a_data_set_only_the_first_one_is_trained_on(check, tmp_path, toy_data, monkeypatch):
    (tmp_path / "mine.toml").write_text(f'[tasks.a]\nfolder = "{toy_data / "a"}"\nshards = 3\n')
    trained = []
    monkeypatch.setattr(TaskChecker, "check", lambda self, task: trained.append(task.name) or TaskCheck(1, 1, 0.0, ()))
    shards = {"tasks.catalogue": f'"{tmp_path / "mine.toml"}"', "tasks.seen": '"a-2, a-3"', "tasks.unseen": ""}
    measured = []
    monkeypatch.setattr(task_check, "peak_memory", lambda: measured.append(trained[-1]) or 1 << 30)
    findings = check(**shards, **{"contributors-per-round": "2"})
    assert trained == measured == ["a-2"]
    assert findings.worker_memory == 1 << 30
    assert findings.notes.keys() == {"a-2", "a-3"}


def test_a_process_reads_the_run_and_its_catalogues_once(check, monkeypatch):
    task.load_catalogues.cache_clear()
    read, parsed = [], []
    monkeypatch.setattr(task, "read_catalogues", lambda *place: read.append(place) or read_catalogues(*place))
    monkeypatch.setattr(node_settings, "parse_settings", lambda *args: parsed.append(args) or parse_settings(*args))
    check()
    assert len(read) == len(parsed) == 1


def test_a_task_whose_worker_is_killed_is_named_with_the_likely_cause(check):
    with pytest.raises(RunError) as error:
        check(killed=("c",))
    assert error.value.code == ErrorCode.WORKERS_FAILED
    assert "the check of c failed" in str(error.value)
    assert "memory" in str(error.value)
