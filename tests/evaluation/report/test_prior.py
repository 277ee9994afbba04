"""Whether a table's probabilities expect each class as often as it comes."""

import numpy as np
import pandas as pd
import pytest

from kderm.data.balance import plan_balance
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report.prior import prior_sentence, prior_shift
from kderm.labels import LabelSpace

SPACE = LabelSpace("custom", ("a", "b", "c"), ("A", "B", "C"), malignant=("b",))
CODES = np.array(SPACE.codes)
PRIOR = np.array([0.8, 0.15, 0.05])


def table(y, probabilities):
    columns = dict(zip(SPACE.columns, probabilities.T, strict=True))
    ids = [f"i{i}" for i in range(len(y))]
    return make_predictions(pd.DataFrame({"image_id": ids, "label": CODES[y], **columns}), SPACE)


def bayes(n=4000, prior=PRIOR, seed=0):
    """Labels by PRIOR, and what a model that believes in `prior` makes of a noisy measurement."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=PRIOR)
    seen = rng.normal(np.array([0.0, 1.5, 3.0])[y])
    likelihood = np.exp(-0.5 * (seen[:, None] - [0.0, 1.5, 3.0]) ** 2)
    joint = likelihood * prior
    return table(y, joint / joint.sum(axis=1, keepdims=True))


def test_shares_and_means_are_those_of_the_table():
    predictions = table(np.array([0, 0, 1, 2]), np.tile([0.5, 0.3, 0.2], (4, 1)))
    shift = prior_shift(predictions)
    assert shift["code"].tolist() == ["a", "b", "c"]
    assert shift["images"].tolist() == [2, 1, 1]
    np.testing.assert_allclose(shift["share"], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(shift["mean_probability"], [0.5, 0.3, 0.2])
    np.testing.assert_allclose(shift["ratio"], [1.0, 1.2, 0.8])


@pytest.mark.parametrize("seed", range(5))
def test_a_model_with_the_right_prior_is_left_in_peace(seed):
    shift = prior_shift(bayes(seed=seed))
    assert not shift["shifted"].any()
    assert prior_sentence(shift) is None


def test_a_model_trained_on_stacked_balancing_is_named_with_its_numbers():
    labels = np.repeat([0, 1, 2], (PRIOR * 1000).round().astype(int))
    stacked = plan_balance(
        labels,
        SPACE.codes,
        by=("weights", "sampler"),
        scheme="balanced",
        power=0.5,
        effective_beta=0.999,
        repeat={},
    )
    shift = prior_shift(bayes(prior=stacked.prior)).set_index("code")
    assert shift["shifted"]["c"]
    assert shift["ratio"]["c"] > 2
    said = prior_sentence(shift.reset_index())
    row = shift.loc["c"]
    assert f"c {row['mean_probability']:.1%} against {row['share']:.1%} of the images" in said


def test_too_few_images_to_tell_are_not_named():
    # Two of forty, where three and a half were expected: a factor, but no finding.
    y = np.array([2] * 2 + [0] * 38)
    probabilities = np.tile([0.9125 - 0.001, 0.001, 0.0875], (40, 1))
    shift = prior_shift(table(y, probabilities))
    assert shift["ratio"][2] > 1.5
    assert not shift["shifted"][2]
    many = prior_shift(table(np.tile(y, 30), np.tile(probabilities, (30, 1))))
    assert many["shifted"][2]


def test_a_class_without_images_has_no_ratio_and_is_not_named():
    shift = prior_shift(table(np.array([0] * 50), np.tile([0.8, 0.1, 0.1], (50, 1))))
    assert np.isnan(shift["ratio"][1])
    assert not shift["shifted"].any()


def test_a_class_that_is_never_expected_is_named():
    y = np.array([0] * 50 + [1] * 50)
    shift = prior_shift(table(y, np.tile([1.0, 0.0, 0.0], (100, 1))))
    assert shift["shifted"].tolist() == [True, True, False]
    assert "b 0.0% against 50.0%" in prior_sentence(shift)
