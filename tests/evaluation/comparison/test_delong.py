"""Areas under correlated ROC curves: published values, a slow oracle, groups, degenerate input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from kderm.evaluation.comparison.delong import auc_covariance, compare_areas
from kderm.evaluation.metrics import binary_auc

# Albumin, total protein, K-G score, benefit of surgery: 43 patients of DeLong et al. 1988, as
# printed in SAS/STAT's guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic Curves".
PRINTED = """
3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0
2.5 5.7  8 0  1.6 5.6  5 1  3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1
4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0  2.3 4.4  6 1  4.2 7.6  4 0
4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1
3.3 6.8  6 0  1.7 4.0  7 0  3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1
2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1  3.3 5.7  6 1  3.7 6.9  5 1
3.6 6.6  5 1
"""
OVARIAN = np.array(PRINTED.split(), dtype=float).reshape(-1, 4)


def example(seed, n=60, mixed=True):
    """Truth, two scores with ties and groups; `mixed` groups hold positives and negatives."""
    random = np.random.default_rng(seed)
    group = random.integers(0, n // 3, n)
    positive = random.random(n) < 0.4 if mixed else (random.random(n // 3) < 0.4)[group]
    effect = random.normal(size=n // 3)[group]
    scores = np.stack(
        [np.round(positive * gain + effect + random.normal(size=n), 1) for gain in (1.0, 0.6)],
        axis=1,
    )
    return positive, scores, group.astype(str)


def slow_covariance(positive, scores, groups):
    """Obuchowski 1997 written out pair by pair."""
    names = sorted(set(groups))
    ours, theirs = np.flatnonzero(positive), np.flatnonzero(~positive)
    m, n, r = len(ours), len(theirs), scores.shape[1]

    def kernel(i, j, k):
        return 1.0 if scores[i, k] > scores[j, k] else 0.5 if scores[i, k] == scores[j, k] else 0.0

    area = [np.mean([kernel(i, j, k) for i in ours for j in theirs]) for k in range(r)]
    v10 = {(i, k): np.mean([kernel(i, j, k) for j in theirs]) for i in ours for k in range(r)}
    v01 = {(j, k): np.mean([kernel(i, j, k) for i in ours]) for j in theirs for k in range(r)}

    def summed(v, side, k):
        return np.array(
            [sum(v[i, k] - area[k] for i in side if groups[i] == name) for name in names]
        )

    with_ours = len({groups[i] for i in ours})
    with_theirs = len({groups[j] for j in theirs})
    covariance = np.empty((r, r))
    for a in range(r):
        for b in range(r):
            s10 = with_ours / ((with_ours - 1) * m) * summed(v10, ours, a) @ summed(v10, ours, b)
            s01 = with_theirs / ((with_theirs - 1) * n)
            s01 = s01 * summed(v01, theirs, a) @ summed(v01, theirs, b)
            s11 = len(names) / (len(names) - 1) * summed(v10, ours, a) @ summed(v01, theirs, b)
            back = len(names) / (len(names) - 1) * summed(v10, ours, b) @ summed(v01, theirs, a)
            covariance[a, b] = s10 / m + s01 / n + (s11 + back) / (m * n)
    return np.array(area), covariance


def test_areas_errors_and_contrasts_are_those_that_sas_prints_for_the_data_of_delong():
    positive = OVARIAN[:, 3] == 1
    scores = np.stack([OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]], axis=1)
    alone = np.arange(len(positive))
    areas, covariance = auc_covariance(positive, scores, alone)
    assert areas == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    albumin = compare_areas(positive, scores[:, 2], scores[:, 0], alone)
    protein = compare_areas(positive, scores[:, 2], scores[:, 1], alone)
    assert (albumin.difference, albumin.standard_error) == pytest.approx((0.0108, 0.0953), abs=5e-5)
    assert (albumin.z**2, albumin.p) == pytest.approx((0.0127, 0.9102), abs=5e-5)
    assert (protein.difference, protein.standard_error) == pytest.approx((-0.078, 0.1046), abs=5e-5)
    assert (protein.low, protein.high) == pytest.approx((-0.2830, 0.1271), abs=6e-5)
    assert (protein.z**2, protein.p) == pytest.approx((0.5554, 0.4561), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_the_covariance_equals_the_one_written_out_pair_by_pair(seed):
    positive, scores, groups = example(seed, n=30, mixed=seed % 2 == 0)
    areas, covariance = auc_covariance(positive, scores, groups)
    slow_areas, slow = slow_covariance(positive, scores, groups)
    assert areas == pytest.approx(slow_areas, abs=1e-12)
    assert covariance == pytest.approx(slow, abs=1e-12)
    assert areas[0] == pytest.approx(roc_auc_score(positive, scores[:, 0]), abs=1e-12)


def test_with_an_image_a_group_it_is_delong_as_published():
    positive, scores, _ = example(7)
    m, n = positive.sum(), (~positive).sum()
    pairs = scores[positive][:, None] - scores[~positive][None]
    kernel = (pairs > 0) + 0.5 * (pairs == 0)
    expected = np.cov(kernel.mean(axis=1).T) / m + np.cov(kernel.mean(axis=0).T) / n
    _, covariance = auc_covariance(positive, scores, np.arange(len(positive)))
    assert covariance == pytest.approx(expected, abs=1e-14)


def test_copies_of_images_within_their_group_leave_the_test_as_it_was():
    positive, scores, _ = example(1)
    once = compare_areas(positive, *scores.T, np.arange(60))
    rows = np.repeat(np.arange(60), 3)
    copied = compare_areas(positive[rows], *scores[rows].T, rows)
    taken_for_new = compare_areas(positive[rows], *scores[rows].T, np.arange(180))
    assert copied.p == pytest.approx(once.p, abs=1e-12)
    assert copied.clustered
    assert not once.clustered
    assert taken_for_new.standard_error < 0.6 * once.standard_error


def test_the_standard_error_is_close_to_that_of_a_bootstrap_of_groups():
    positive, scores, groups = example(3, n=600)
    found = compare_areas(positive, *scores.T, groups)
    names, member = np.unique(groups, return_inverse=True)
    rows_of = [np.flatnonzero(member == g) for g in range(len(names))]
    random, values = np.random.default_rng(0), []
    for _ in range(400):
        rows = np.concatenate([rows_of[g] for g in random.integers(0, len(names), len(names))])
        first, second = (binary_auc(positive[rows], scores[rows, j]) for j in (0, 1))
        values.append(second - first)
    assert found.standard_error == pytest.approx(np.std(values), rel=0.12)


def test_runs_that_do_not_differ_are_told_apart_in_five_of_a_hundred_trials():
    random, clustered, naive = np.random.default_rng(5), [], []
    for _ in range(400):
        group = np.repeat(np.arange(40), 5)
        positive = (np.arange(40) % 2 == 0)[group]
        first, second = (
            positive + random.normal(size=40)[group] + 0.3 * random.normal(size=200)
            for _ in range(2)
        )
        clustered.append(compare_areas(positive, first, second, group).p < 0.05)
        naive.append(compare_areas(positive, first, second, np.arange(200)).p < 0.05)
    assert 0.02 < np.mean(clustered) < 0.1
    assert np.mean(naive) > 0.2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_of_rows_and_scale_of_scores_change_nothing_and_swapping_turns_the_sign(seed):
    positive, scores, groups = example(seed, n=24)
    found = compare_areas(positive, *scores.T, groups)
    order = np.random.default_rng(seed).permutation(24)
    again = compare_areas(positive[order], *np.exp(scores[order]).T, groups[order])
    swapped = compare_areas(positive, *scores.T[::-1], groups)
    values = (found.difference, found.standard_error, found.p)
    assert (again.difference, again.standard_error, again.p) == pytest.approx(
        values, abs=1e-9, nan_ok=True
    )
    assert swapped.difference == pytest.approx(-found.difference, abs=1e-12, nan_ok=True)
    assert swapped.p == pytest.approx(found.p, abs=1e-9, nan_ok=True)


def test_a_run_against_itself_does_not_differ():
    positive, scores, groups = example(2)
    found = compare_areas(positive, scores[:, 0], 2 * scores[:, 0], groups)
    assert (found.difference, found.z, found.p, found.low, found.high) == (0, 0, 1, 0, 0)


def test_without_one_of_the_two_sides_nothing_is_defined():
    found = compare_areas(np.ones(5, bool), np.arange(5.0), np.arange(5.0), np.arange(5))
    assert np.isnan([found.first, found.difference, found.p, found.low]).all()


def test_a_side_in_one_group_alone_has_an_area_but_no_test():
    positive = np.array([True, True, False, False])
    score = np.array([0.9, 0.2, 0.5, 0.1])
    found = compare_areas(positive, score, -score, np.array(["a", "a", "b", "c"]))
    assert (found.first, found.second) == (0.75, 0.25)
    assert np.isnan([found.standard_error, found.p, found.low]).all()


def test_always_right_against_constant_scores_has_a_difference_but_no_p():
    positive = np.array([True, True, False, False])
    found = compare_areas(positive, np.zeros(4), positive.astype(float), np.arange(4))
    assert (found.first, found.second, found.difference) == (0.5, 1, 0.5)
    assert np.isnan([found.z, found.p, found.low, found.high]).all()
