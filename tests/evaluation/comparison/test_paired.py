"""Paired answers: McNemar's exact test, the one that knows of groups, Holm's adjustment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from kderm.evaluation.comparison.paired import compare_answers, exact_mcnemar, holm


def answers(only_first, only_second, both=3, neither=2):
    """Right or wrong of two runs with so many images of each kind."""
    first = [1] * only_first + [0] * only_second + [1] * both + [0] * neither
    second = [0] * only_first + [1] * only_second + [1] * both + [0] * neither
    return np.array(first, bool), np.array(second, bool)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 6), (7, 1), (10, 10), (59, 86)])
def test_the_exact_p_is_that_of_the_binomial_test(only_first, only_second):
    expected = binomtest(only_first, only_first + only_second).pvalue
    assert exact_mcnemar(only_first, only_second) == pytest.approx(expected, abs=1e-12)


def test_counts_and_difference_are_those_of_the_four_kinds_of_images():
    found = compare_answers(*answers(4, 1), np.arange(10))
    kinds = (found.both_right, found.only_first, found.only_second, found.both_wrong)
    assert kinds == (3, 4, 1, 2)
    assert found.difference == pytest.approx(-0.3)


def test_the_group_test_gives_the_published_value_of_the_thyroid_data():
    """PET and SPECT in 21 patients (Obuchowski 1998): 2.86 in Durkalski et al. 2003.

    The statistic needs only the glands on which the two differ, a patient at a time. These counts
    are the ones that agree with what is in print: 4.5 for McNemar's own statistic, 2.86 here.
    """
    patients = np.array([0, 0, 1, 1, 2, 3, 4, 5, *range(21)])
    first = np.array([0] * 7 + [1] + [1] * 21, bool)
    second = np.array([1] * 7 + [0] + [1] * 21, bool)
    found = compare_answers(first, second, patients)
    assert found.z_groups**2 == pytest.approx(2.86, abs=0.005)
    difference, together = found.only_second - found.only_first, 8
    assert difference**2 / together == 4.5


def test_with_an_image_a_group_it_is_mcnemars_statistic_but_for_the_sample_size():
    first, second = answers(12, 25, 40, 23)
    found = compare_answers(first, second, np.arange(100))
    assert found.z_groups**2 == pytest.approx((25 - 12) ** 2 / 37 * 99 / 100)


def test_copies_of_images_within_their_group_change_the_exact_test_alone():
    first, second = answers(3, 9)
    once = compare_answers(first, second, np.arange(17))
    rows = np.repeat(np.arange(17), 4)
    copied = compare_answers(first[rows], second[rows], rows)
    assert copied.p_groups == pytest.approx(once.p_groups)
    assert copied.difference == pytest.approx(once.difference)
    assert copied.p_exact < once.p_exact / 10


def test_the_group_test_agrees_with_swapping_the_runs_within_whole_groups():
    random = np.random.default_rng(0)
    group = random.integers(0, 60, 300)
    luck = random.random((2, 60))[:, group] + random.random((2, 300))
    first, second = luck[0] > 0.8, luck[1] > 0.65
    change = np.bincount(group, weights=second.astype(int) - first.astype(int))
    swapped = np.abs(random.choice([-1, 1], size=(20_000, len(change))) @ change)
    more, equal = swapped > abs(change.sum()) + 1e-9, np.abs(swapped - abs(change.sum())) < 1e-9
    expected = more.mean() + equal.mean() / 2  # half of the ties, as the test is of a continuum
    assert 0.001 < expected < 0.2
    assert compare_answers(first, second, group).p_groups == pytest.approx(expected, abs=0.015)


def test_runs_that_never_differ_have_a_p_of_one():
    found = compare_answers(*answers(0, 0), np.arange(5))
    assert (found.p_exact, found.p_groups, found.difference) == (1, 1, 0)


def test_one_group_and_answers_that_cancel_within_groups_have_no_group_test():
    first, second = answers(1, 1, 0, 0)
    assert np.isnan(compare_answers(first, second, np.zeros(2)).p_groups)
    both_ways = compare_answers(np.tile(first, 2), np.tile(second, 2), np.array([0, 0, 1, 1]))
    assert np.isnan(both_ways.p_groups)
    assert both_ways.p_exact == 1


def test_holm_gives_the_values_of_r_and_passes_over_undefined_ones():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.01, np.nan, 0.04])
    assert np.isnan(adjusted[1])
    assert [adjusted[0], adjusted[2]] == pytest.approx([0.02, 0.04])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_keeps_their_order_and_stays_below_bonferroni(p):
    adjusted = np.array(holm(p))
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert len(p) > 1 or adjusted[0] == p[0]
