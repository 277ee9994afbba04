"""Thresholds on the malignant score."""

import numpy as np
import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.evaluation.decisions.operating_points import (
    malignant_operating_point,
    malignant_score,
    malignant_truth,
    sensitivity_specificity,
    youden_threshold,
)
from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000, LabelSpace


def scores(n=300, seed=0, digits=8):
    random = np.random.default_rng(seed)
    y = random.random(n) < 0.25
    return y, np.round(np.clip(0.4 * y + 0.6 * random.random(n), 0, 1), digits)


@pytest.mark.parametrize("digits", [1, 2, 8])
def test_no_other_threshold_does_better_than_youdens(digits):
    y, score = scores(digits=digits)
    best = sum(sensitivity_specificity(y, score, youden_threshold(y, score)))
    others = [sum(sensitivity_specificity(y, score, t)) for t in [*score, 2.0]]
    assert best == pytest.approx(max(others))


def test_equally_good_thresholds_give_the_more_sensitive_one():
    y = np.array([1, 0, 1, 0])
    score = np.array([0.9, 0.7, 0.5, 0.1])
    # At 0.9: sensitivity 1/2, specificity 1. At 0.5: sensitivity 1, specificity 1/2.
    assert sensitivity_specificity(y, score, youden_threshold(y, score)) == (1.0, 0.5)


def test_rounding_the_scores_does_not_move_an_image_over_the_threshold():
    y, score = scores()
    threshold = youden_threshold(y, score)
    rounded = np.array([float(f"{value:.7g}") for value in score])
    np.testing.assert_array_equal(rounded >= threshold, score >= threshold)
    assert np.abs(score - threshold).min() > 0


def test_neighbouring_floats_are_still_told_apart():
    low = 0.5
    high = np.nextafter(low, 1)
    threshold = youden_threshold(np.array([0, 1]), np.array([low, high]))
    assert sensitivity_specificity(np.array([0, 1]), np.array([low, high]), threshold) == (1, 1)


def test_constant_scores_flag_everything():
    y, _ = scores()
    threshold = youden_threshold(y, np.full(len(y), 0.3))
    assert threshold == 0.3
    assert sensitivity_specificity(y, np.full(len(y), 0.3), threshold) == (1.0, 0.0)


@pytest.mark.parametrize("value", [0, 1])
def test_one_side_alone_is_refused(value):
    side = ["negative", "positive"][value]
    with pytest.raises(UserError, match=f"3 image.*all {side}"):
        youden_threshold(np.full(3, value), np.array([0.1, 0.2, 0.3]))
    with pytest.raises(UserError, match=f"all {side}"):
        sensitivity_specificity(np.full(3, value), np.array([0.1, 0.2, 0.3]), 0.2)


def test_the_malignant_score_is_the_sum_over_malignant_classes():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(7), size=5)
    akiec, bcc, mel = (probabilities[:, HAM10000.index(c)] for c in ("akiec", "bcc", "mel"))
    np.testing.assert_allclose(malignant_score(probabilities, HAM10000), akiec + bcc + mel)
    assert malignant_truth(np.arange(7), HAM10000).tolist() == [
        code in ("akiec", "bcc", "mel") for code in HAM10000.codes
    ]


def binary_predictions(labels, codes):
    rows = np.linspace(0.1, 0.9, len(codes))
    frame = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(codes))], "label": codes})
    frame[labels.columns[0]], frame[labels.columns[1]] = 1 - rows, rows
    return make_predictions(frame, labels)


def test_the_operating_point_says_what_its_threshold_gives():
    space = LabelSpace("custom", ("ok", "bad"), ("ok", "bad"), malignant=("bad",))
    point = malignant_operating_point(binary_predictions(space, ["ok", "ok", "bad", "bad"]))
    assert (point.sensitivity, point.specificity, point.rule) == (1.0, 1.0, "youden")
    assert 0.36 < point.threshold < 0.64


def test_without_two_sides_there_is_no_operating_point():
    flags = LabelSpace("custom", ("ok", "bad"), ("ok", "bad"), malignant=("bad",))
    harmless = LabelSpace("custom", ("ok", "bad"), ("ok", "bad"))
    assert malignant_operating_point(binary_predictions(flags, ["ok", "ok"])) is None
    assert malignant_operating_point(binary_predictions(harmless, ["ok", "bad"])) is None
