"""The recalibration line and its interval over groups."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from kderm.evaluation.calibration.recalibration import recalibration


def drawn(n=2000, seed=0, intercept=0.0, slope=1.0):
    random = np.random.default_rng(seed)
    score = expit(random.normal(-1, 1.5, n))
    return random.random(n) < expit(intercept + slope * logit(score)), score


@pytest.mark.parametrize(("intercept", "slope"), [(0, 1), (-1, 0.5), (2, 1.5)])
def test_the_line_is_scikit_learns_logistic_regression(intercept, slope):
    event, score = drawn(intercept=intercept, slope=slope)
    found = recalibration(event, score, np.arange(len(event)))
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    oracle.fit(logit(score)[:, None], event)
    assert found.intercept[0] == pytest.approx(oracle.intercept_[0], abs=1e-5)
    assert found.slope[0] == pytest.approx(oracle.coef_[0, 0], abs=1e-5)


def test_a_calibrated_score_has_the_line_zero_and_one_in_its_intervals_as_often_as_stated():
    inside = 0
    for seed in range(200):
        found = recalibration(*drawn(n=300, seed=seed), np.arange(300))
        inside += (found.slope[1] <= 1 <= found.slope[2]) + (
            found.intercept[1] <= 0 <= found.intercept[2]
        )
    assert 0.9 <= inside / 400 <= 0.99


def test_copies_within_a_group_leave_the_interval_where_it_was():
    event, score = drawn(n=500)
    groups = np.arange(500)
    once = recalibration(event, score, groups)
    copied = recalibration(np.tile(event, 4), np.tile(score, 4), np.tile(groups, 4))
    np.testing.assert_allclose(copied.slope, once.slope, rtol=1e-6)
    apart = recalibration(np.tile(event, 4), np.tile(score, 4), np.arange(2000))
    assert apart.slope[2] - apart.slope[1] == pytest.approx(
        (once.slope[2] - once.slope[1]) / 2, rel=0.01
    )


@pytest.mark.parametrize(
    ("event", "score"),
    [
        ([1, 1, 1], [0.2, 0.5, 0.7]),
        ([0, 0, 0], [0.2, 0.5, 0.7]),
        ([0, 1, 0], [0.5, 0.5, 0.5]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
        ([0, 1], [0.3, 0.6]),
        ([0, 0, 1, 1], [0.2, 0.5, 0.5, 0.9]),
        ([0, 0, 0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_where_there_is_no_line_there_is_none(event, score):
    assert recalibration(np.array(event), np.array(score), np.arange(len(event))) is None


def test_one_group_has_a_line_without_an_interval():
    event, score = drawn(n=50)
    found = recalibration(event, score, np.zeros(50))
    assert np.isfinite(found.slope[0])
    assert np.isnan(found.slope[1:]).all()


def test_scores_of_exactly_zero_and_one_are_finite():
    event = np.array([0, 1, 0, 1, 1, 0, 1, 0])
    score = np.array([0.0, 1.0, 0.4, 0.6, 0.3, 0.7, 0.0, 1.0])
    found = recalibration(event, score, np.arange(8))
    assert np.isfinite([*found.intercept, *found.slope]).all()
