import numpy as np
import pytest

from kderm.ensemble.combine import (
    average_members,
    fold_sd,
    member_weights,
    normalised_entropy,
)
from kderm.errors import UserError
from kderm.models.averaging import average_views

# Two members, two views of one image, two classes: (1, m, v, k).
ANSWERS = np.array([[[[0.9, 0.1], [0.7, 0.3]], [[0.5, 0.5], [0.1, 0.9]]]])


def combine(answers, how, weights=None):
    """The ensemble's answer (n, k) from answers (n, m, v, k), as the predictor takes it."""
    return average_members(average_views(answers, how), how, weights)


def test_probability_mode_is_the_mean_over_members_and_views():
    np.testing.assert_allclose(combine(ANSWERS, "probability"), [[0.55, 0.45]])


def test_logit_mode_is_the_softmax_of_the_mean_logit():
    logits = np.random.default_rng(0).normal(size=(5, 3, 4, 7))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    mean = np.exp(logits.mean(axis=(1, 2)))
    expected = mean / mean.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(combine(softmax, "logit"), expected, rtol=1e-5)


def test_logit_mode_stays_finite_where_a_probability_underflowed_to_zero():
    answer = combine(np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]]), "logit")
    np.testing.assert_allclose(answer, [[0.5, 0.5]])


def test_oof_mode_weighs_each_member():
    # Member means over views: (0.8, 0.2) and (0.3, 0.7); 3/4 and 1/4 of them.
    np.testing.assert_allclose(combine(ANSWERS, "oof", np.array([3.0, 1.0])), [[0.675, 0.325]])


def test_each_answer_is_that_of_its_row_alone():
    rng = np.random.default_rng(1)
    answers = rng.dirichlet(np.ones(7), (6, 3, 2))
    for how in ("probability", "logit"):
        together = combine(answers, how)
        alone = np.concatenate([combine(answers[i : i + 1], how) for i in range(6)])
        np.testing.assert_array_equal(together, alone)


def test_weights_grow_with_the_excess_of_the_auc_over_chance():
    scores = [{"macro_auc": 0.9}, {"macro_auc": 0.7}, {"macro_auc": 0.4}]
    np.testing.assert_allclose(member_weights(scores), [2 / 3, 1 / 3, 0])


def test_members_that_are_all_at_chance_weigh_the_same():
    np.testing.assert_allclose(member_weights([{"macro_auc": 0.5}, {"macro_auc": 0.3}]), [0.5, 0.5])


def test_an_undefined_score_weighs_nothing():
    scores = [{"macro_auc": float("nan")}, {"macro_auc": 0.8}]
    np.testing.assert_allclose(member_weights(scores), [0, 1])


@pytest.mark.parametrize("weights", [None, np.array([1.0]), np.array([-1.0, 2.0]), np.zeros(2)])
def test_oof_mode_refuses_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match="weights"):
        combine(ANSWERS, "oof", weights)


def test_weights_are_refused_where_they_would_be_ignored():
    with pytest.raises(ValueError, match="only there"):
        combine(ANSWERS, "probability", np.ones(2))


def test_an_unknown_way_of_combining_names_the_nearest_one():
    with pytest.raises(UserError, match="Did you mean 'probability'"):
        combine(ANSWERS, "probabilities")


def test_fold_sd_is_the_spread_of_the_chosen_class_between_members():
    members = average_views(ANSWERS, "probability")
    assert fold_sd(members, np.array([[True, False]])) == pytest.approx([0.25])


def test_fold_sd_of_several_classes_is_that_of_their_sum():
    members = np.array([[[0.2, 0.3, 0.5], [0.4, 0.1, 0.5]]])
    assert fold_sd(members, np.array([True, True, False])) == pytest.approx([0.0])


def test_entropy_is_zero_when_certain_and_one_when_uniform():
    table = np.array([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]])
    np.testing.assert_allclose(normalised_entropy(table), [0, 1, 0.5], atol=1e-12)
