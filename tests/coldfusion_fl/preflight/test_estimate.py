"""The estimate of a run's time: a few batches, multiplied."""

import numpy as np
import pytest
import torch

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.preflight.estimate import Speed, estimate_seconds, measure_speed, token_lengths

SPEED = Speed(training=0.01, scoring=0.001)


def settings(seen=("a", "b"), **changes):
    base = {
        "base": "any",
        "rounds": 5,
        "contributors_per_round": 2,
        "tasks": {"seen": seen},
        "finetune": {"examples": 20, "epochs": 1, "max_length": 10, "dev_examples": 10},
        "evaluate": {"every": -1},
    }
    return Settings(**{**base, **changes})


def estimate(task, chosen, workers=2, length=10):
    tasks = [task] * len(chosen.task_names)
    return estimate_seconds(chosen, tasks, [np.full(3, length)] * len(tasks), SPEED, workers)


def test_rounds_rows_tokens_and_workers_count(task):
    # 20 rows of 10 tokens, and 10 development rows
    contribution = 20 * 10 * 0.01 + 10 * 10 * 0.001
    assert estimate(task, settings()) == pytest.approx(5 * contribution)
    assert estimate(task, settings(), workers=1) == pytest.approx(10 * contribution)
    assert estimate(task, settings(rounds=1)) == pytest.approx(contribution)
    assert estimate(task, settings(), length=20) == pytest.approx(5 * contribution)  # they are cut
    assert estimate(task, settings(), length=5) == pytest.approx(2.5 * contribution)
    few = settings(seen=("a", "b", "c", "d"))
    assert estimate(task, few) == pytest.approx(5 * contribution)  # two of four contribute


def test_no_more_rows_than_there_are(task):
    whole = settings(finetune={"examples": 0, "epochs": 1, "max_length": 10, "dev_examples": 1})
    many = settings(finetune={"examples": 10_000, "epochs": 1, "max_length": 10, "dev_examples": 1})
    assert estimate(task, whole) == estimate(task, many) == pytest.approx(5 * (60 * 0.1 + 0.01))


def test_evaluations_count(task):
    rounds = estimate(task, settings())
    table = {"train_examples": 10, "test_examples": 10}
    one = 20 * 10 * 0.001
    assert estimate(task, settings(evaluate=table | {"every": 0})) - rounds == pytest.approx(2 * one)
    assert estimate(task, settings(evaluate=table | {"every": 2})) - rounds == pytest.approx(4 * one)


def test_the_speed_is_measured_with_the_threads_of_a_worker(base, encoder, task):
    before = torch.get_num_threads()
    speed = measure_speed(base, encoder, task, settings())
    assert 0 < speed.scoring < speed.training < 1
    assert torch.get_num_threads() == before


def test_the_lengths_are_those_before_texts_are_cut(base, task):
    lengths = token_lengths(base, task)
    assert lengths.shape == (60,)
    assert lengths.min() > 6
