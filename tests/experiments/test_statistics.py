import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfusion_fl.experiments.statistics import differences, estimate

points = st.floats(-50, 50)
cells = st.dictionaries(st.tuples(st.integers(1, 4), st.sampled_from("abcdefg")), points, min_size=1)


@settings(max_examples=30, deadline=None)
@given(cells)
def test_the_mean_is_over_tasks_of_their_means_over_seeds(found):
    tasks = {task for _, task in found}
    by_task = [np.mean([value for (_, name), value in found.items() if name == task]) for task in tasks]
    made = estimate(found)
    assert made.mean == pytest.approx(np.mean(by_task), abs=1e-9)
    assert made.positive == np.mean(np.array(by_task) > 0)
    assert (made.tasks, made.seeds) == (len(tasks), len({seed for seed, _ in found}))


@settings(max_examples=30, deadline=None)
@given(cells, points)
def test_the_interval_moves_with_the_scores(found, shift):
    made, moved = estimate(found), estimate({place: value + shift for place, value in found.items()})
    if len(found) > 1:
        assert moved.low == pytest.approx(made.low + shift, abs=1e-6)
        assert moved.high == pytest.approx(made.high + shift, abs=1e-6)
        assert min(found.values()) - 1e-9 <= made.low <= made.high <= max(found.values()) + 1e-9


def test_one_score_has_no_interval():
    made = estimate({(1, "a"): 3.0})
    assert made.mean == 3
    assert np.isnan(made.low) and np.isnan(made.high)
    assert estimate({}) is None


def test_the_interval_is_that_of_the_mean():
    """Of many independent tasks and one seed the bootstrap's interval is the normal one."""
    drawn = np.random.default_rng(0).normal(2, 5, size=200)
    made = estimate({(1, str(place)): value for place, value in enumerate(drawn)})
    error = drawn.std() / np.sqrt(200)
    assert made.low == pytest.approx(drawn.mean() - 1.96 * error, abs=0.05)
    assert made.high == pytest.approx(drawn.mean() + 1.96 * error, abs=0.05)


def test_few_seeds_make_wide_intervals_if_seeds_differ():
    """Many tasks do not make up for few seeds where a seed moves all of them together."""
    by_seed = {1: -3.0, 2: 0.0, 3: 3.0}
    made = estimate({(seed, str(task)): value for seed, value in by_seed.items() for task in range(50)})
    assert (made.low, made.high) == (-3, 3)


def test_differences_need_both_scores():
    of, to = {(1, "a"): 5.0, (2, "a"): 1.0}, {(1, "a"): 3.0, (1, "b"): 2.0}
    assert differences(of, to) == {(1, "a"): 2.0}


def test_the_interval_if_tasks_have_different_seeds():
    """Twelve tasks of five seeds at 0 and twelve of one seed at 10: the mean is 5."""
    found = {(seed, f"a{task}"): 0.0 for seed in range(1, 6) for task in range(12)}
    found |= {(1, f"b{task}"): 10.0 for task in range(12)}
    made = estimate(found)
    assert made.mean == 5
    assert made.low < 5 < made.high
