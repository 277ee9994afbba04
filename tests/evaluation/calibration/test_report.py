"""The numbers about calibration that a report shows."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from kderm.evaluation.calibration.reliability import error_if_calibrated, reliability_bins
from kderm.evaluation.calibration.report import calibration_report, event_report
from kderm.evaluation.calibration.scaling import nested_calibration
from kderm.evaluation.intervals import group_intervals
from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000, LabelSpace

FEW = 40


def predictions_of(n=300, seed=0, folds=3, space=HAM10000, classes=None):
    """Answers that are somewhat right and far too sure; a pair of images a group."""
    random = np.random.default_rng(seed)
    k = len(space)
    y = random.integers(0, classes or k, n)
    probabilities = random.dirichlet(np.full(k, 0.3), n) + 0.5 * np.eye(k)[y]
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "group_id": [f"g{i // 2}" for i in range(n)],
            "label": [space.codes[j] for j in y],
        }
    )
    if folds:
        frame["fold"] = (np.arange(n) // 2) % folds
    frame[space.columns] = probabilities / probabilities.sum(axis=1, keepdims=True)
    return make_predictions(frame, space)


def values(found):
    """All numbers in nested plain data."""
    if isinstance(found, dict):
        return [number for item in found.values() for number in values(item)]
    if isinstance(found, list):
        return [number for item in found for number in values(item)]
    return [found]


def test_the_report_is_plain_data_with_every_estimate_within_its_interval():
    found = calibration_report(predictions_of(), resamples=FEW)
    json.dumps(found, allow_nan=False)
    assert set(found["targets"]) == {"malignant", "mel"}
    assert set(found["classes"]) == set(HAM10000.codes)
    gap = found["top_label"]["gap"]
    assert gap["low"] < gap["value"] < gap["high"]
    assert gap["value"] == pytest.approx(
        found["top_label"]["mean_confidence"]["value"] - found["top_label"]["frequency"]["value"]
    )


def test_the_calibration_errors_are_those_of_the_bins():
    predictions = predictions_of()
    event, score = predictions.y == 4, predictions.probabilities[:, 4]
    found = event_report(event, score, predictions.groups, resamples=FEW)
    for kind, name in (("width", "ece"), ("mass", "ece_mass")):
        bins = reliability_bins(event, score, kind=kind)
        assert found[name]["value"] == pytest.approx(bins.expected_error)
        assert sum(row["n"] for row in found["curve"][kind]) == len(predictions)
        chance = error_if_calibrated(bins, score)
        assert list(found[f"{name}_if_calibrated"].values()) == pytest.approx(chance)
        used = np.flatnonzero(bins.count)
        rows = found["curve"][kind]
        assert [row["confidence"] for row in rows] == pytest.approx(bins.confidence[used].tolist())
        frequency = [row["frequency"]["value"] for row in rows]
        assert frequency == pytest.approx(bins.frequency[used].tolist())


def test_a_bin_without_events_is_not_called_certain():
    event, score = np.arange(60) >= 50, np.repeat([0.05, 0.95], [50, 10])
    found = event_report(event, score, np.arange(60), resamples=FEW)
    low, high = found["curve"]["width"]
    # 0 of 50 and 10 of 10: Clopper and Pearson's ends, by the rule of (alpha / 2) ** (1 / n).
    assert low["frequency"] == {"value": 0, "low": 0, "high": pytest.approx(1 - 0.025 ** (1 / 50))}
    assert high["frequency"] == {"value": 1, "low": pytest.approx(0.025 ** (1 / 10)), "high": 1}


def test_the_scaling_is_the_nested_one():
    predictions = predictions_of()
    found = calibration_report(predictions, resamples=FEW)["scaling"]
    raw = log_loss(predictions.y, predictions.probabilities, labels=range(7))
    assert found["raw"]["log_loss"] == pytest.approx(raw)
    for kind in ("temperature", "vector"):
        nested = nested_calibration(predictions, kind)
        expected = log_loss(nested.y, nested.probabilities, labels=range(7))
        assert found[kind]["log_loss"] == pytest.approx(expected)
        assert found[kind]["fitted"]["kind"] == kind


@pytest.mark.parametrize("kind", ["temperature", "vector"])
def test_what_scaling_gains_is_resampled_in_pairs(kind):
    """Oracle: scikit-learn's weighted log-loss of both, draw by draw."""
    raw = predictions_of()
    scaled = nested_calibration(raw, kind)

    def plain(weights):
        both = [
            log_loss(raw.y, p.probabilities, sample_weight=weights, labels=range(7))
            for p in (scaled, raw)
        ]
        return {"log_loss": both[0] - both[1]}

    expected = group_intervals(plain, raw.groups, resamples=FEW)["log_loss"]
    found = calibration_report(raw, resamples=FEW)["scaling"]
    own = found[kind]["difference"]["log_loss"]
    assert own["value"] == pytest.approx(found[kind]["log_loss"] - found["raw"]["log_loss"])
    assert (own["low"], own["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert own["high"] < 0  # these answers are far too sure
    assert found[kind]["difference"]["brier"]["value"] == pytest.approx(
        found[kind]["brier"] - found["raw"]["brier"]
    )


def test_an_external_table_has_no_scaling():
    assert calibration_report(predictions_of(folds=0), resamples=FEW)["scaling"] is None
    assert calibration_report(predictions_of(folds=1), resamples=FEW)["scaling"] is None


def test_absent_classes_and_a_space_without_malignant_ones_give_an_answer():
    harmless = LabelSpace("custom", ("a", "b", "c"), ("a", "b", "c"))
    found = calibration_report(predictions_of(space=harmless, classes=2), resamples=FEW)
    assert found["targets"] == {}
    assert found["classes"]["c"]["n_events"] == 0
    assert found["classes"]["c"]["slope"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_give_an_answer_without_intervals(n):
    found = calibration_report(predictions_of(n=n, folds=0), resamples=FEW)
    assert found["top_label"]["gap"]["low"] is None
    assert found["top_label"]["gap"]["value"] is not None
    json.dumps(found, allow_nan=False)


def test_the_order_of_the_rows_changes_nothing_but_rounding():
    predictions = predictions_of(n=80)
    shuffled = make_predictions(predictions.table.sample(frac=1, random_state=1), HAM10000)
    before = calibration_report(predictions, resamples=FEW)
    after = calibration_report(shuffled, resamples=FEW)
    # The draws for the chance level go over the images in their order.
    for found in (before, after):
        for event in (found["top_label"], *found["classes"].values(), *found["targets"].values()):
            del event["ece_if_calibrated"], event["ece_mass_if_calibrated"]
    numbers = zip(values(before), values(after), strict=True)
    for one, other in numbers:
        assert one == other or one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_copies_of_every_group_leave_the_values_and_narrow_the_intervals():
    predictions = predictions_of(n=100, folds=0)
    table = predictions.table
    copies = [
        table.assign(
            image_id=table["image_id"] + f"_{number}", group_id=table["group_id"] + f"_{number}"
        )
        for number in range(4)
    ]
    many = make_predictions(pd.concat(copies), HAM10000)
    once = calibration_report(predictions, resamples=200)["top_label"]
    four = calibration_report(many, resamples=200)["top_label"]
    assert four["gap"]["value"] == pytest.approx(once["gap"]["value"])
    assert four["slope"]["value"] == pytest.approx(once["slope"]["value"])
    for name in ("gap", "slope"):
        width = four[name]["high"] - four[name]["low"]
        assert width < 0.75 * (once[name]["high"] - once[name]["low"])


def simulated_error(shift, seed, groups=200):
    """The top class of twins: told with a confidence that is too high by `shift`."""
    random = np.random.default_rng(seed)
    confidence = np.repeat(0.3 + 0.6 * random.random(groups), 2)
    alike = np.repeat(random.random(groups) < 0.5, 2)
    luck = np.where(alike, np.repeat(random.random(groups), 2), random.random(2 * groups))
    event = luck < confidence - shift
    return event_report(event, confidence, np.repeat(np.arange(groups), 2), resamples=200)


@pytest.mark.parametrize("name", ["ece", "ece_mass"])
def test_the_interval_of_a_calibration_error_holds_zero_for_most_calibrated_models(name):
    found = [simulated_error(0, seed)[name] for seed in range(40)]
    assert sum(one["low"] == 0 for one in found) >= 35
    # Mirrored alone, as it was, about half of them would be called miscalibrated.
    assert all(one["low"] <= one["value"] <= one["high"] for one in found)


@pytest.mark.parametrize("name", ["ece", "ece_mass"])
def test_the_interval_of_a_calibration_error_holds_the_true_one(name):
    found = [simulated_error(0.12, seed)[name] for seed in range(40)]
    assert sum(one["low"] <= 0.12 <= one["high"] for one in found) >= 35
    assert sum(one["low"] > 0 for one in found) >= 20


def test_beyond_chance_the_interval_of_a_calibration_error_is_the_mirrored_one():
    event, confidence = np.arange(400) % 2 == 0, np.full(400, 0.9)
    groups = np.arange(400)
    found = event_report(event, confidence, groups, resamples=FEW)
    shares = group_intervals(
        lambda w: {"x": 0.9 - np.average(event, weights=w)}, groups, resamples=FEW
    )["x"]
    assert found["ece"]["value"] == pytest.approx(0.4)
    assert found["ece"]["low"] == pytest.approx(0.8 - shares.high)
    assert found["ece"]["high"] == pytest.approx(0.8 - shares.low)


def test_the_report_says_how_a_calibration_error_is_to_be_read():
    assert "mirrored" in calibration_report(predictions_of(n=40), resamples=FEW)["ece_note"]
