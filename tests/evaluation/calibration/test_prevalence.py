"""Correction to another prevalence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kderm.errors import UserError
from kderm.evaluation.calibration.prevalence import (
    implied_prior,
    predictive_values,
    stated_prior,
    to_prevalence,
)


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
    with pytest.raises(UserError, match=r"classes that had 0: \[1\]"):
        to_prevalence(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), np.array([0.9, 0.1]))


@pytest.mark.parametrize("prior", [[0.5, 0.6], [1.2, -0.2], [1.0], [np.nan, 1.0]])
def test_shares_that_are_none_are_refused(prior):
    with pytest.raises(UserError, match="prior_to must hold the share of each of the 2 classes"):
        to_prevalence(np.array([[0.5, 0.5]]), np.array([0.5, 0.5]), np.array(prior))


def test_a_stated_prevalence_keeps_the_proportions_within_each_side():
    prior = stated_prior(np.array([0.1, 0.3, 0.4, 0.2]), [([0, 1], 0.02)])
    np.testing.assert_allclose(prior, [0.005, 0.015, 0.98 * 4 / 6, 0.98 * 2 / 6])


def test_several_stated_classes_leave_the_rest_to_the_others_in_their_proportions():
    prior = stated_prior(np.array([0.1, 0.3, 0.4, 0.2]), [([0], 0.02), ([3], 0.38)])
    np.testing.assert_allclose(prior, [0.02, 0.6 * 3 / 7, 0.6 * 4 / 7, 0.38])
    all_of_them = stated_prior(np.array([0.5, 0.5, 0.0]), [([1], 0.9), ([0], 0.1)])
    np.testing.assert_allclose(all_of_them, [0.1, 0.9, 0])


@pytest.mark.parametrize("stated", [[([0], 0)], [([0], 1)], [([], 0.1)], [([2], 0.1)]])
def test_a_prevalence_without_images_to_start_from_is_refused(stated):
    with pytest.raises(UserError, match="lies between 0 and 1"):
        stated_prior(np.array([0.5, 0.5, 0.0]), stated)


@pytest.mark.parametrize("shares", [(0.3, 0.3, 0.3), (0.6, 0.6), (0.5, 0.5)])
def test_shares_that_do_not_add_up_with_the_rest_are_refused(shares):
    stated = [([index], share) for index, share in enumerate(shares)]
    with pytest.raises(UserError, match="add up to"):
        stated_prior(np.full(3, 1 / 3), stated)


def answers_at(prior, shares, n=6000, seed=0):
    """What a network sure of the densities says that learnt at `prior`, and labels at `shares`."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), n, p=shares)
    x = rng.normal(np.eye(len(shares))[y] * 1.5)
    joint = np.exp(-((x[:, None] - 1.5 * np.eye(len(shares))) ** 2).sum(axis=2) / 2) * prior
    return joint / joint.sum(axis=1, keepdims=True), y


def test_the_prior_of_answers_that_learnt_with_class_weights_is_found():
    weighted, shares = np.array([0.4, 0.3, 0.3]), np.array([0.8, 0.15, 0.05])
    probabilities, y = answers_at(weighted, shares)
    found = implied_prior(probabilities, y)
    np.testing.assert_allclose(found, weighted, atol=0.03)
    # Going back from it, each class is expected as often as it comes; from the label shares not.
    own = np.bincount(y) / len(y)
    back = to_prevalence(probabilities, found, own)
    np.testing.assert_allclose(back.mean(axis=0), own, atol=5e-4)
    assert np.abs(probabilities.mean(axis=0) - own).max() > 0.05
    # At a third place the answers are those of Bayes' rule.
    there = np.array([0.1, 0.2, 0.7])
    truth = to_prevalence(probabilities, weighted, there)
    np.testing.assert_allclose(to_prevalence(probabilities, found, there), truth, atol=0.03)


def test_the_prior_of_answers_that_are_not_shifted_is_the_share_of_the_labels():
    probabilities, y = answers_at(np.array([0.6, 0.3, 0.1]), np.array([0.6, 0.3, 0.1]))
    np.testing.assert_allclose(implied_prior(probabilities, y), np.bincount(y) / len(y), atol=0.02)


def test_a_class_without_an_image_has_no_prior():
    probabilities, y = answers_at(np.array([0.5, 0.25, 0.25]), np.array([0.5, 0.5, 0.0]), n=500)
    found = implied_prior(probabilities, y)
    assert found[2] == 0
    assert found.sum() == pytest.approx(1)
    np.testing.assert_array_equal(implied_prior(np.array([[0.2, 0.8]]), np.array([0])), [1, 0])


def test_classes_told_apart_without_an_error_keep_the_share_of_the_labels():
    y = np.array([0] * 30 + [1] * 10)
    probabilities = np.eye(2)[y] * 0.9999998 + 1e-7
    np.testing.assert_allclose(implied_prior(probabilities, y), [0.75, 0.25], atol=0.02)


def test_predictive_values_are_those_of_a_counted_population():
    # 10,000 people, 1 % ill: 90 found, 10 missed, 990 false alarms, 8,910 cleared.
    positive, negative = predictive_values(0.9, 0.9, 0.01)
    assert positive == pytest.approx(90 / 1080)
    assert negative == pytest.approx(8910 / 8920)


def test_predictive_values_of_nobody_flagged_are_undefined():
    positive, negative = predictive_values(0.0, 1.0, 0.1)
    assert np.isnan(positive)
    assert negative == pytest.approx(0.9)


def test_a_class_that_is_never_in_doubt_keeps_its_share():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 240, 16])
    doubt = rng.uniform(0.2, 0.8, 540)
    rows = np.column_stack([doubt, 1 - doubt, np.full(540, 1e-9)])
    sure = np.tile([1e-3, 1e-3, 1 - 2e-3], (16, 1))
    found = implied_prior(np.concatenate([rows, sure]), y)
    assert found[2] == pytest.approx(16 / 556, rel=0.3)
