"""The standard error of a paired difference: closed form, scikit-learn's metrics, coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.evaluation.bootstrap import WEIGHTED_METRICS, difference_error

METRIC_NAMES = sorted(METRICS)


@st.composite
def predicted_rows(draw, fewest=2):
    """A metric, and the labels and two predictions of some rows; for a regression with ties."""
    rows = draw(st.integers(fewest, 60))
    values = st.lists(st.integers(0, draw(st.integers(1, 5))), min_size=rows, max_size=rows)
    return draw(st.sampled_from(METRIC_NAMES)), *(np.array(draw(values)) for _ in range(3))


def test_every_metric_can_be_resampled():
    assert WEIGHTED_METRICS.keys() == METRICS.keys()


@given(predicted_rows(), st.integers(0, 2**32 - 1))
def test_the_metrics_of_resamples_are_those_of_the_scores(drawn, seed):
    metric, labels, *predictions = drawn
    generator = np.random.default_rng(seed)
    resamples = [generator.integers(len(labels), size=len(labels)) for _ in range(3)]
    weights = np.array([np.bincount(resample, minlength=len(labels)) for resample in resamples], float).T
    found = WEIGHTED_METRICS[metric](weights, labels, np.array(predictions))
    expected = [[METRICS[metric].function(labels[r], one[r]) for r in resamples] for one in predictions]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-9)


@given(st.integers(20, 400), st.floats(0.2, 0.9), st.floats(0.2, 0.9), st.integers(0, 2**32 - 1))
def test_for_accuracy_it_is_the_closed_form_of_a_paired_difference(rows, first, second, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=rows)
    before, after = (np.where(generator.random(rows) < right, labels, 3) for right in (first, second))
    gains = (after == labels).astype(float) - (before == labels)
    closed_form = 100 * gains.std(ddof=1) / np.sqrt(rows)
    # A standard error of 1,000 resamples varies by about 2 %, and more where few rows make the difference.
    assert difference_error("accuracy", labels, before[None], after[None]) == pytest.approx(closed_form, rel=0.15)


@given(predicted_rows(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_has_no_influence(drawn, random):
    metric, labels, before, after = drawn
    order = list(range(len(labels)))
    random.shuffle(order)
    there = difference_error(metric, labels, before[None], after[None])
    back = difference_error(metric, labels[order], before[None, order], after[None, order])
    assert there == back


@given(predicted_rows())
def test_equal_predictions_differ_by_nothing(drawn):
    metric, labels, before, _ = drawn
    assert difference_error(metric, labels, before[None], before[None]) == 0


@given(predicted_rows())
def test_draws_are_averaged_within_each_resample(drawn):
    """So the same draw twice changes nothing, and the two sides need not have equally many."""
    metric, labels, before, after = drawn
    once = difference_error(metric, labels, before[None], after[None])
    assert difference_error(metric, labels, before[None], np.stack([after, after])) == pytest.approx(once, abs=1e-9)
    assert difference_error(metric, labels, np.stack([before] * 3), after[None]) == pytest.approx(once, abs=1e-9)


def test_several_draws_have_a_smaller_error_than_one():
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=300)
    before = np.where(generator.random((4, 300)) < 0.6, labels, 1 - labels)
    after = np.where(generator.random((4, 300)) < 0.7, labels, 1 - labels)
    one, four = (difference_error("accuracy", labels, before[:n], after[:n]) for n in (1, 4))
    assert four == pytest.approx(one / 2, rel=0.2)


def test_one_row_has_no_error():
    assert difference_error("accuracy", np.array([1]), np.array([[0]]), np.array([[1]])) is None


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_intervals_contain_the_true_difference_as_often_as_they_say(metric):
    """Of 200 test sets that are drawn from one distribution, about 95 % have an interval with its difference."""
    generator = np.random.default_rng(1)

    def draw(rows):
        labels = generator.integers(3, size=rows)
        if METRICS[metric].is_regression:
            noise = generator.normal(size=(3, rows))  # the first is common to both, as with two bases of one run
            return labels, labels + noise[0] + 0.8 * noise[1], labels + noise[0] + 0.5 * noise[2]
        easy = generator.random(rows)
        return labels, *(np.where(easy + 0.2 * generator.random(rows) < right, labels, 0) for right in (0.6, 0.7))

    def difference(labels, before, after):
        return 100 * (METRICS[metric].function(labels, after) - METRICS[metric].function(labels, before))

    truth, inside = difference(*draw(200_000)), 0
    for _ in range(200):
        labels, before, after = draw(150)
        error = difference_error(metric, labels, before[None], after[None])
        inside += abs(difference(labels, before, after) - truth) < 1.96 * error
    assert 0.90 <= inside / 200 <= 0.99  # 0.95 plus and minus three standard errors


def test_many_different_rows_are_resampled_in_parts():
    generator = np.random.default_rng(2)
    labels = generator.normal(size=20_000)
    before, after = (labels + generator.normal(scale=scale, size=20_000) for scale in (1, 0.9))
    found = difference_error("spearman", labels, before[None], after[None])
    some = difference_error("spearman", labels[:2000], before[None, :2000], after[None, :2000])
    assert found == pytest.approx(some / np.sqrt(10), rel=0.25)
