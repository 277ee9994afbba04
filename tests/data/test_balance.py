"""Balancing plans: what an epoch shows, what it counts, and what is refused."""

import numpy as np
import pytest

from kderm.data.balance import (
    check_balance,
    class_weights,
    plan_balance,
    stacking_warnings,
)
from kderm.errors import UserError

CODES = ("mel", "nv", "df")
COUNTS = (20, 70, 10)
LABELS = np.repeat([0, 1, 2], COUNTS)
DEFAULTS = {"by": (), "scheme": "sqrt", "power": 0.5, "effective_beta": 0.999, "repeat": {}}


def plan(labels=LABELS, codes=CODES, **changes):
    return plan_balance(labels, codes, **{**DEFAULTS, **changes})


def shown(a_plan, epochs=200, labels=LABELS):
    """Mean share of each class among the images of an epoch."""
    rng = np.random.default_rng(0)
    order = np.concatenate([a_plan.draw(rng) for _ in range(epochs)])
    return np.bincount(labels[order], minlength=len(CODES)) / len(order)


@pytest.mark.parametrize("scheme", ["none", "balanced", "sqrt", "effective", "power"])
def test_weights_have_a_mean_of_one_over_the_training_images(scheme):
    weights = class_weights(LABELS, 3, scheme)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[LABELS].mean(), 1, rtol=1e-6)


def test_the_schemes_are_their_formulas_up_to_scale():
    counts = np.array(COUNTS, float)
    formulas = {
        "none": counts**0,
        "balanced": 1 / counts,
        "sqrt": counts**-0.5,
        "power": counts**-0.25,
        "effective": (1 - 0.99) / (1 - 0.99**counts),
    }
    for scheme, expected in formulas.items():
        weights = class_weights(LABELS, 3, scheme, effective_beta=0.99, power=0.25)
        np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-6)


def test_power_holds_none_sqrt_and_balanced_as_special_cases():
    for power, scheme in [(0.5, "sqrt"), (1.0, "balanced")]:
        np.testing.assert_allclose(
            class_weights(LABELS, 3, "power", power=power), class_weights(LABELS, 3, scheme), 1e-6
        )


def test_pos_weight_is_negatives_over_positives_and_not_scaled():
    labels = np.repeat([0, 1], [90, 30])
    np.testing.assert_array_equal(class_weights(labels, 2, "pos_weight"), [1, 3])
    weights = plan(labels, ("benign", "malignant"), by=("weights",), scheme="pos_weight").weights
    np.testing.assert_array_equal(weights, [1, 3])


def test_a_class_without_images_has_no_weight_and_is_never_drawn():
    labels = np.repeat([0, 1], [5, 15])
    for by in [(), ("weights",), ("sampler",), ("weights", "sampler")]:
        a_plan = plan(labels, by=by, scheme="balanced")
        assert a_plan.weights[2] == 0
        assert a_plan.prior[2] == 0
        assert np.isfinite(a_plan.prior).all()


def test_pos_weight_is_refused_for_other_than_two_classes_and_without_positives():
    with pytest.raises(UserError, match=r"Expected two classes.*Received: 3"):
        class_weights(LABELS, 3, "pos_weight")
    with pytest.raises(UserError, match=r"both classes.*Received: 4 of the first and 0"):
        class_weights(np.zeros(4, int), 2, "pos_weight")


def test_pos_weight_for_more_classes_is_refused_before_there_are_labels_where_it_is_used():
    for by in (("weights",), ("sampler",)):
        with pytest.raises(UserError, match="Expected two classes"):
            check_balance(CODES, by=by, repeat={}, scheme="pos_weight")
    np.testing.assert_array_equal(plan(by=(), scheme="pos_weight").weights, 1)


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(UserError, match=r"'balanced'.*Received: 'balance'"):
        class_weights(LABELS, 3, "balance")


@pytest.mark.parametrize("by", [(), ("weights",)])
def test_without_sampling_an_epoch_is_the_permutation_that_it_always_was(by):
    a_plan = plan(by=by)
    assert a_plan.length == 100
    expected = np.random.default_rng(7).permutation(100)
    np.testing.assert_array_equal(a_plan.draw(np.random.default_rng(7)), expected)


def test_the_default_plan_has_the_weights_of_its_scheme_bit_for_bit():
    a_plan = plan(by=("weights",), scheme="effective", effective_beta=0.99)
    expected = class_weights(LABELS, 3, "effective", effective_beta=0.99)
    np.testing.assert_array_equal(a_plan.weights, expected)


def test_repeating_shows_every_image_as_often_as_it_says_shuffled():
    a_plan = plan(by=("repeat",), repeat={"df": 5, "mel": 2})
    order = a_plan.draw(np.random.default_rng(1))
    assert a_plan.length == len(order) == 20 * 2 + 70 + 10 * 5
    times = np.bincount(order, minlength=100)
    np.testing.assert_array_equal(times, np.array([2, 1, 5])[LABELS])
    assert (np.diff(order) < 0).mean() > 0.3
    np.testing.assert_array_equal(a_plan.weights, 1)


@pytest.mark.parametrize("scheme", ["balanced", "sqrt"])
def test_the_sampler_draws_each_class_by_its_count_times_its_weight(scheme):
    a_plan = plan(by=("sampler",), scheme=scheme)
    assert a_plan.length == 100
    expected = np.array(COUNTS) * class_weights(LABELS, 3, scheme)
    np.testing.assert_allclose(shown(a_plan), expected / expected.sum(), atol=0.01)
    np.testing.assert_array_equal(a_plan.weights, 1)


def test_the_sampler_draws_with_replacement_and_all_images_of_a_class_alike():
    order = np.concatenate(
        [plan(by=("sampler",)).draw(np.random.default_rng(seed)) for seed in range(300)]
    )
    times = np.bincount(order, minlength=100)
    for of_class in np.split(times, np.cumsum(COUNTS)[:-1]):
        assert of_class.std() < 2 * np.sqrt(of_class.mean())
    assert len(np.unique(order[:100])) < 90


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"by": ("weights",)},
        {"by": ("sampler",), "scheme": "balanced"},
        {"by": ("repeat",), "repeat": {"df": 7}},
        {"by": ("weights", "sampler"), "scheme": "balanced"},
        {"by": ("weights", "repeat"), "repeat": {"df": 7, "mel": 3}},
    ],
)
def test_the_prior_is_the_share_of_each_class_in_the_loss(changes):
    a_plan = plan(**changes)
    counted = shown(a_plan) * a_plan.weights
    np.testing.assert_allclose(a_plan.prior, counted / counted.sum(), atol=0.015)
    np.testing.assert_allclose(a_plan.prior.sum(), 1)


@pytest.mark.parametrize(("by", "repeat"), [("sampler", {}), ("repeat", {"df": 7, "mel": 3})])
def test_weights_beside_sampling_have_a_mean_of_one_over_the_images_shown(by, repeat):
    a_plan = plan(by=("weights", by), scheme="balanced", repeat=repeat)
    np.testing.assert_allclose(shown(a_plan) @ a_plan.weights, 1, atol=0.02)


def test_weights_and_sampler_stack_far_beyond_balance():
    # What a seed project did: 10 % of df would come to a third, and comes to 0.63.
    balanced = plan(by=("sampler",), scheme="balanced").prior
    stacked = plan(by=("weights", "sampler"), scheme="balanced").prior
    np.testing.assert_allclose(balanced, 1 / 3, rtol=1e-6)
    assert stacked[2] > 0.6
    assert stacked[1] < 0.1


def test_sampler_and_repetition_are_refused_since_they_cancel():
    with pytest.raises(UserError, match=r"sampler or repeat, not both.*cancel.*Received: repeat"):
        plan(by=("repeat", "sampler"), repeat={"df": 5})


def test_repetition_needs_multipliers_and_multipliers_need_repetition():
    with pytest.raises(UserError, match=r"multipliers in balance\.repeat.*Received: none"):
        check_balance(CODES, by=("repeat",), repeat={})
    with pytest.raises(UserError, match=r"Received: by = weights, repeat = \{'df': 5\}"):
        check_balance(CODES, by=("weights",), repeat={"df": 5})
    with pytest.raises(UserError, match="Received: by = nothing"):
        check_balance(CODES, by=(), repeat={"df": 5})


def test_multipliers_of_unknown_classes_or_below_one_are_refused():
    with pytest.raises(UserError, match=r"class in balance\.repeat.*'mel'.*Received: 'mell'"):
        check_balance(CODES, by=("repeat",), repeat={"mell": 5})
    with pytest.raises(UserError, match=r"Expected multipliers of 1 or more.*Received: mel: 0"):
        check_balance(CODES, by=("repeat",), repeat={"mel": 0})


def warnings(by=(), focal_gamma=0.0, mixing=0.0, **changes):
    if "repeat" in by:
        changes["repeat"] = {"df": 7}
    a_plan = plan(by=by, scheme="balanced", **changes)
    return stacking_warnings(a_plan, CODES, by=by, focal_gamma=focal_gamma, mixing=mixing)


@pytest.mark.parametrize("by", [(), ("weights",), ("sampler",), ("repeat",)])
def test_one_means_alone_is_not_warned_of(by):
    assert warnings(by) == []


def test_focal_loss_or_mixing_alone_is_not_warned_of():
    assert warnings(focal_gamma=2.0, mixing=0.5) == []


@pytest.mark.parametrize("other", ["sampler", "repeat"])
def test_weights_beside_sampling_are_warned_of_with_the_shares_in_the_loss(other):
    (said,) = warnings(("weights", other))
    stacked = plan(
        by=("weights", other), scheme="balanced", repeat={"df": 7} if other == "repeat" else {}
    )
    assert f"weights and {other}" in said
    assert f"df {stacked.prior[2]:.1%} (10.0% of the images)" in said
    assert "df, the rarest, outweighs nv, the commonest" in said


def test_each_further_choice_gets_its_own_sentence_and_the_shares_come_once():
    first, second = warnings(("sampler",), focal_gamma=2.0, mixing=0.5)
    assert "focal loss (gamma 2)" in first
    assert "df 33.3% (10.0% of the images)" in first
    assert "outweighs" not in first
    assert "50% of images" in second
    assert "Shares" not in second
    assert len(warnings(("weights", "sampler"), focal_gamma=2.0, mixing=0.5)) == 3
