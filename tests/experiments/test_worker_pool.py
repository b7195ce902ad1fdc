import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings, TaskSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import DataError, ErrorCode, RunError
from coldfusion_fl.experiments import jobs
from coldfusion_fl.experiments.jobs import ScoreJob, TrainingJob, score, train
from coldfusion_fl.experiments.plan import Scoring
from coldfusion_fl.experiments.worker_pool import WorkerPool

TUNING = FinetuneSettings(learning_rate=3e-3, epochs=1, examples=40, batch_size=8, max_length=16)


@pytest.fixture
def job(tiny_base, toy_data, tmp_path):
    tasks = TaskSettings(catalogue=(str(toy_data / "toy.toml"),))
    return TrainingJob(str(tiny_base), ("a",), tasks, False, TUNING, 2.5, 3, tmp_path / "a.safetensors")


def test_training_on_one_task_sees_as_many_examples_as_its_contributions(job):
    # Two and a half contributions of 40 rows, of 60 that there are: two passes over 50.
    assert train(job)[1] == 100
    small = replace(job, finetune=TUNING.model_copy(update={"examples": 500}), out=job.out.with_name("b"))
    assert train(small)[1] == 150  # no contribution has more than the task's 60 rows


def test_a_finished_training_is_not_repeated(job):
    took = train(job)
    before = job.out.read_bytes()
    assert train(job) == took
    assert job.out.read_bytes() == before


def test_multitask_training_sees_as_many_examples_as_the_contributions(job):
    both = replace(job, names=("a", "b"), together=True)
    assert train(both)[1] == 200


def test_a_training_and_a_score_of_one_seed_draw_different_rows(job, monkeypatch):
    """A base that was trained on the very rows that its score learns from would be too good."""
    drawn = []
    monkeypatch.setattr(jobs, "finetune", lambda model, tokenizer, task, rows, *_, **__: drawn.append(rows) or _stop())
    with pytest.raises(KeyboardInterrupt):
        train(job)
    scored = load_task("a", job.tasks.catalogue).train.draw(len(drawn[0]), [job.seed])
    assert drawn[0].texts != scored.texts


def _stop():
    raise KeyboardInterrupt


def test_validation_rows_are_split_for_scores_and_early_stopping(toy_data):
    task = load_task("a", (str(toy_data / "toy.toml"),))
    scored, left = jobs._split_validation(task)
    assert (len(scored), len(left)) == (12, 6)
    assert sorted(scored.texts + left.texts) == sorted(task.validation.texts)


def test_a_score_by_the_validation_split(job):
    scoring = Scoring(split="validation", finetune=TUNING, evaluate=EvaluateSettings(train_examples=30))
    to_score = ScoreJob(job.base, None, "a", job.tasks, "frozen", scoring, 1)
    value, about = score(to_score)
    assert about == {"metric": "accuracy", "head": "mean", "test-rows": 12}
    assert value == pytest.approx(100 * round(value / 100 * 12) / 12)


def test_an_error_of_a_worker_is_raised_in_the_parent(job):
    wrong = replace(
        job, tasks=job.tasks.model_copy(update={"data_root": "/nowhere", "catalogue": ("excerpts",)}), names=("rte",)
    )
    with WorkerPool(1, 1) as worker_pool, pytest.raises(DataError, match="rte"):
        list(worker_pool.do(train, [wrong]))


def test_a_killed_worker_is_replaced():
    with WorkerPool(1, 1) as worker_pool:
        with pytest.raises(RunError) as error:
            list(worker_pool.do(os._exit, [3]))
        assert error.value.code == ErrorCode.WORKERS_FAILED
        assert list(worker_pool.do(abs, [-1])) == [(-1, 1)]


_PARENT = """
import time
from coldfusion_fl.experiments.worker_pool import WorkerPool
if __name__ == "__main__":
    with WorkerPool(2, 1) as pool:
        for _, done in pool.do(abs, [-1, -2]):
            print(done, flush=True)
        time.sleep(60)
"""


def test_workers_end_with_their_parent(tmp_path):
    (tmp_path / "parent.py").write_text(_PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    assert sorted([parent.stdout.readline(), parent.stdout.readline()]) == ["1\n", "2\n"]
    descendants = psutil.Process(parent.pid).children(recursive=True)
    assert descendants
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 20
    while (
        any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in descendants) and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    assert not [p for p in descendants if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_the_seed_of_a_repetition_draws_the_training(job):
    from safetensors.numpy import load_file

    train(job)
    other = replace(job, seed=4, out=job.out.with_name("other"))
    train(other)
    one, two = load_file(job.out), load_file(other.out)
    assert any(not np.array_equal(one[name], two[name]) for name in one)
