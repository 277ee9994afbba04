"""Correction to another prevalence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kderm.errors import UserError
from kderm.evaluation.calibration.prevalence import event_prior, predictive_values, to_prevalence


def test_corrected_probabilities_are_those_of_the_other_population():
    # Two classes with known densities of one measurement: the truth at any prevalence is Bayes'.
    x = np.linspace(-3, 4, 50)
    densities = np.stack([np.exp(-(x**2) / 2), np.exp(-((x - 1) ** 2) / 2)], axis=1)

    def posterior(prior):
        joint = densities * prior
        return joint / joint.sum(axis=1, keepdims=True)

    here, there = np.array([0.8, 0.2]), np.array([0.98, 0.02])
    np.testing.assert_allclose(to_prevalence(posterior(here), here, there), posterior(there))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_going_there_and_back_changes_nothing(seed):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(5), 10)
    here, there = random.dirichlet(np.full(5, 3.0), 2)
    moved = to_prevalence(probabilities, here, there)
    np.testing.assert_allclose(moved.sum(axis=1), 1)
    np.testing.assert_allclose(to_prevalence(moved, there, here), probabilities, atol=1e-9)
    np.testing.assert_allclose(to_prevalence(probabilities, here, here), probabilities)


def test_a_class_that_is_gone_gets_nothing():
    moved = to_prevalence(np.array([[0.2, 0.3, 0.5]]), np.full(3, 1 / 3), np.array([0.5, 0.5, 0]))
    np.testing.assert_allclose(moved, [[0.4, 0.6, 0]])


def test_an_image_surely_of_a_class_that_is_gone_falls_back_to_the_shares():
    moved = to_prevalence(np.array([[0.0, 1.0]]), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(moved, [[1.0, 0.0]])


def test_a_class_that_was_never_seen_cannot_appear():
    with pytest.raises(UserError, match=r"class\(es\) \[1\]"):
        to_prevalence(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), np.array([0.9, 0.1]))


@pytest.mark.parametrize("prior", [[0.5, 0.6], [1.2, -0.2], [1.0], [np.nan, 1.0]])
def test_shares_that_are_none_are_refused(prior):
    with pytest.raises(UserError, match="prior_to must hold the share of each of the 2 classes"):
        to_prevalence(np.array([[0.5, 0.5]]), np.array([0.5, 0.5]), np.array(prior))


def test_a_stated_prevalence_keeps_the_proportions_within_each_side():
    prior = event_prior(np.array([0.1, 0.3, 0.4, 0.2]), [0, 1], 0.02)
    np.testing.assert_allclose(prior, [0.005, 0.015, 0.98 * 4 / 6, 0.98 * 2 / 6])


@pytest.mark.parametrize(("share", "indices"), [(0, [0]), (1, [0]), (0.1, []), (0.1, [0, 1])])
def test_a_prevalence_without_two_sides_is_refused(share, indices):
    with pytest.raises(UserError, match="lies between 0 and 1"):
        event_prior(np.array([0.5, 0.5]), indices, share)


def test_predictive_values_are_those_of_a_counted_population():
    # 10,000 people, 1 % ill: 90 found, 10 missed, 990 false alarms, 8,910 cleared.
    positive, negative = predictive_values(0.9, 0.9, 0.01)
    assert positive == pytest.approx(90 / 1080)
    assert negative == pytest.approx(8910 / 8920)


def test_predictive_values_of_nobody_flagged_are_undefined():
    positive, negative = predictive_values(0.0, 1.0, 0.1)
    assert np.isnan(positive)
    assert negative == pytest.approx(0.9)
