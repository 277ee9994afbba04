"""Net benefit."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kderm.evaluation.decisions.decision_curve import (
    CURVES,
    THRESHOLDS,
    decision_curve,
    decision_report,
    net_benefit,
)
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000, LabelSpace

FEW = 50


def drawn(n=500, seed=0):
    """Calibrated answers: events drawn from their scores."""
    random = np.random.default_rng(seed)
    score = random.beta(0.5, 2, n)
    return random.random(n) < score, score


def counted(truth, score, threshold):
    """The definition, image by image."""
    flagged = score >= threshold
    true = sum(f and t for f, t in zip(flagged, truth, strict=True))
    false = sum(f and not t for f, t in zip(flagged, truth, strict=True))
    return true / len(truth) - false / len(truth) * threshold / (1 - threshold)


def predictions_of(truth, score, space=BINARY):
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(len(truth))],
            "label": np.where(truth, space.codes[1], space.codes[0]),
            space.columns[0]: 1 - score,
            space.columns[1]: score,
        }
    )
    return make_predictions(frame, space)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.sampled_from([0, 0.01, 0.1, 0.29, 0.3, 0.5, 0.9, 1])),
        min_size=1,
        max_size=40,
    )
)
def test_the_curve_is_what_counting_gives_at_every_threshold_ties_included(rows):
    truth, score = (np.array(column) for column in zip(*rows, strict=True))
    found = decision_curve(truth, score, np.arange(len(truth)), resamples=2)
    for name, scored in (("net_benefit", score), ("treat_all", np.ones(len(score)))):
        expected = [counted(truth, scored, threshold) for threshold in THRESHOLDS]
        assert [point["value"] for point in found[name]] == pytest.approx(expected, abs=1e-12)


def test_a_worked_example_of_the_method():
    # 100 patients, 20 ill; at 10 % the model flags 30, 18 of them ill.
    truth = np.repeat([True, True, False, False], [18, 2, 12, 68])
    score = np.repeat([0.4, 0.05, 0.2, 0.01], [18, 2, 12, 68])
    assert net_benefit(truth, score, 0.1) == pytest.approx(0.18 - 0.12 / 9)
    found = decision_curve(truth, score, np.arange(100), (0.1,), resamples=FEW)
    assert found["treat_all"][0]["value"] == pytest.approx(0.2 - 0.8 / 9)
    gain = (0.18 - 0.12 / 9) - (0.2 - 0.8 / 9)
    assert found["gain"][0]["value"] == pytest.approx(gain)
    # Vickers and Elkin's exchange: 100 times the gain over treating all, at the odds of 10 %.
    assert found["biopsies_avoided_per_100"][0]["value"] == pytest.approx(100 * gain * 9)


def test_perfect_answers_are_worth_the_prevalence_everywhere():
    truth, _ = drawn()
    found = decision_curve(truth, truth.astype(float), np.arange(len(truth)), resamples=FEW)
    assert {point["value"] for point in found["net_benefit"]} == {truth.mean()}


def test_a_score_that_flags_everybody_is_treating_all():
    truth, _ = drawn()
    found = decision_curve(truth, np.ones(len(truth)), np.arange(len(truth)), resamples=FEW)
    assert found["net_benefit"] == found["treat_all"]


def test_the_values_lie_in_intervals_that_narrow_with_more_groups():
    truth, score = drawn(n=200)
    once = decision_curve(truth, score, np.arange(200), (0.1, 0.2), resamples=200)
    many = decision_curve(
        np.tile(truth, 4), np.tile(score, 4), np.arange(800), (0.1, 0.2), resamples=200
    )
    for name in CURVES:
        for one, four in zip(once[name], many[name], strict=True):
            assert one["low"] <= one["value"] <= one["high"]
            assert four["value"] == pytest.approx(one["value"])
            assert four["high"] - four["low"] < 0.75 * (one["high"] - one["low"])


def test_copies_within_a_group_narrow_nothing():
    truth, score = drawn(n=100)
    groups = np.arange(100)
    once = decision_curve(truth, score, groups, (0.1,), resamples=100)
    copied = decision_curve(
        np.tile(truth, 3), np.tile(score, 3), np.tile(groups, 3), (0.1,), resamples=100
    )
    for name in CURVES:
        assert copied[name][0] == pytest.approx(once[name][0])


def test_the_report_says_where_acting_on_the_model_is_better():
    truth, score = drawn(n=2000)
    found = decision_report(predictions_of(truth, score), resamples=FEW)
    assert found["thresholds"] == list(THRESHOLDS)
    curve = found["targets"]["malignant"]
    assert (curve["n_positive"], curve["n_negative"]) == (truth.sum(), (~truth).sum())
    better = [point["low"] > 0 for point in curve["gain"]]
    named = [
        any(low <= threshold <= high for low, high in curve["useful"]) for threshold in THRESHOLDS
    ]
    assert named == better
    assert any(better)
    json.dumps(found, allow_nan=False)


def test_noise_is_useful_nowhere():
    random = np.random.default_rng(0)
    truth, score = random.random(1000) < 0.2, random.random(1000)
    found = decision_report(predictions_of(truth, score), resamples=200)
    assert found["targets"]["malignant"]["useful"] == []


def moved(score, before, after):
    """Probabilities where the event has another share: Bayes' rule on the odds."""
    odds = score / (1 - score) * (after / (1 - after)) / (before / (1 - before))
    return odds / (1 + odds)


def counted_at(truth, score, threshold, prevalence):
    """Net benefit of a table thinned out to a prevalence."""
    flagged, price = score >= threshold, threshold / (1 - threshold)
    return prevalence * flagged[truth].mean() - (1 - prevalence) * price * flagged[~truth].mean()


def test_a_stated_prevalence_is_that_of_a_table_thinned_out_to_it():
    truth, score = drawn(n=400)
    there = moved(score, truth.mean(), 0.1)
    found = decision_curve(truth, there, np.arange(400), (0.05, 0.2), prevalence=0.1, resamples=9)
    for number, threshold in enumerate((0.05, 0.2)):
        expected = counted_at(truth, there, threshold, 0.1)
        assert found["net_benefit"][number]["value"] == pytest.approx(expected)
        treat_all = 0.1 - 0.9 * threshold / (1 - threshold)
        assert found["treat_all"][number]["value"] == pytest.approx(treat_all)


def test_the_tables_own_prevalence_changes_nothing():
    truth, score = drawn(n=300)
    own = decision_curve(truth, score, np.arange(300), resamples=2)
    stated = decision_curve(truth, score, np.arange(300), prevalence=truth.mean(), resamples=2)
    for name in CURVES:
        assert [point["value"] for point in stated[name]] == pytest.approx(
            [point["value"] for point in own[name]], abs=1e-9
        )


def in_folds(predictions):
    return make_predictions(
        predictions.table.assign(fold=np.arange(len(predictions)) % 2), predictions.labels
    )


def test_where_the_event_is_rare_only_low_thresholds_are_useful():
    found = decision_report(in_folds(predictions_of(*drawn(n=2000))), resamples=FEW)
    found = found["targets"]["malignant"]
    rare, rarer_than_here = found["at_prevalence"]
    assert (rare["prevalence"], rarer_than_here["prevalence"]) == (0.01, 0.05)
    assert 0 < rare["useful"][-1][1] < found["useful"][-1][1]


def test_answers_that_expect_the_event_too_often_are_taken_to_a_prevalence_from_there():
    """Trained on half malignant, asked where a fifth are: the way to 5 % starts at the half."""
    truth, score = drawn(n=20_000)
    share = truth.mean()
    biased = in_folds(predictions_of(truth, moved(score, share, 0.5)))
    gain = decision_report(biased, resamples=2)["targets"]["malignant"]["at_prevalence"][1]["gain"]
    honest = [
        counted_at(truth, moved(score, share, 0.05), threshold, 0.05)
        - max(0, 0.05 - 0.95 * threshold / (1 - threshold))
        for threshold in THRESHOLDS
    ]
    assert [point["value"] for point in gain] == pytest.approx(honest, abs=6e-4)
    # From the labels' share it would land at a probability that is several times too high.
    wrong = counted_at(truth, moved(moved(score, share, 0.5), share, 0.05), 0.1, 0.05)
    assert abs(gain[9]["value"] - wrong) > 0.002


def test_what_answers_stand_for_is_not_fitted_on_the_images_that_test_them():
    found = decision_report(predictions_of(*drawn(n=100)), resamples=FEW)
    assert found["targets"]["malignant"]["at_prevalence"] == []


def test_a_truth_of_one_side_is_skipped_with_the_reason():
    found = decision_report(predictions_of(np.zeros(5, bool), np.full(5, 0.3)), resamples=FEW)
    assert found["targets"] == {}
    reason = "no image is positive"
    assert found["skipped"] == [{"target": "malignant", "reason": reason}]


def test_a_space_without_malignant_classes_has_no_curve():
    harmless = LabelSpace("custom", ("a", "b"), ("a", "b"))
    found = decision_report(predictions_of(*drawn(n=9), space=harmless), resamples=FEW)
    assert (found["targets"], found["skipped"]) == ({}, [])


def test_one_group_has_values_without_intervals():
    truth, score = drawn(n=20)
    found = decision_curve(truth, score, np.zeros(20), (0.1,), resamples=FEW)
    assert found["net_benefit"][0]["low"] is None
    assert found["net_benefit"][0]["value"] == pytest.approx(counted(truth, score, 0.1))


def test_melanoma_and_malignant_have_a_curve_each():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(7), 60)
    frame = pd.DataFrame({"image_id": [f"i{i}" for i in range(60)]})
    frame["label"] = [HAM10000.codes[i % 7] for i in range(60)]
    frame[HAM10000.columns] = probabilities
    found = decision_report(make_predictions(frame, HAM10000), resamples=FEW)["targets"]
    assert list(found) == ["malignant", "mel"]
    melanoma = probabilities[:, HAM10000.index("mel")]
    expected = counted(np.arange(60) % 7 == HAM10000.index("mel"), melanoma, 0.25)
    assert found["mel"]["net_benefit"][24]["value"] == pytest.approx(expected)
