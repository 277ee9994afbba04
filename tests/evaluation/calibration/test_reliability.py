"""Reliability bins, calibration errors, Murphy's parts, and what chance alone would show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from kderm.evaluation.calibration.reliability import (
    brier_decomposition,
    classwise_calibration_error,
    error_if_calibrated,
    expected_calibration_error,
    multiclass_brier_decomposition,
    reliability_bins,
)
from kderm.evaluation.metrics import image_brier


def answers(n=400, k=4, seed=0):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(k), n)
    return random.integers(0, k, n), probabilities


def test_the_error_equals_a_loop_over_bins():
    y, probabilities = answers()
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence >= low) & (confidence < low + 0.1)
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    assert expected_calibration_error(y, probabilities, bins=10) == pytest.approx(expected)


def test_certain_answers_have_no_error_if_right_and_all_of_it_if_wrong():
    assert expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0
    assert expected_calibration_error(np.array([1, 0]), np.eye(2)) == 1


@pytest.mark.parametrize("kind", ["width", "mass"])
def test_an_honest_uniform_guess_is_calibrated(kind):
    y = np.repeat(np.arange(4), 5)
    assert expected_calibration_error(y, np.full((20, 4), 0.25), kind=kind) == pytest.approx(0)
    assert classwise_calibration_error(y, np.full((20, 4), 0.25), kind=kind) == pytest.approx(0)


def test_bins_hold_their_lower_edge_and_the_last_one_both():
    bins = reliability_bins(np.array([1, 1, 0]), np.array([0.0, 0.5, 1.0]), bins=2)
    assert bins.count.tolist() == [1, 2]
    assert bins.edges.tolist() == [0, 0.5, 1]
    assert bins.frequency.tolist() == [1, 0.5]
    assert bins.confidence.tolist() == [0, 0.75]


def test_an_empty_bin_is_nan_and_does_not_count():
    bins = reliability_bins(np.array([1, 0]), np.array([0.9, 0.95]), bins=10)
    assert bins.count[:9].sum() == 0
    assert np.isnan(bins.confidence[:9]).all()
    assert np.isnan(bins.frequency[:9]).all()
    assert bins.expected_error == pytest.approx(0.425)
    assert bins.largest_error == pytest.approx(0.425)


def test_probabilities_a_hair_above_one_fall_into_the_last_bin():
    bins = reliability_bins(np.array([True]), np.array([1 + 1e-7]), bins=5)
    assert bins.count.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("kind", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_the_curve_is_scikit_learns(kind, strategy):
    y, probabilities = answers(n=1000)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    bins = reliability_bins(right, confidence, 10, kind)
    frequency, given_ = calibration_curve(right, confidence, n_bins=10, strategy=strategy)
    used = bins.count > 0
    # Quantiles between two scores may put a single image into the neighbouring bin.
    np.testing.assert_allclose(bins.confidence[used], given_, atol=2e-3)
    np.testing.assert_allclose(bins.frequency[used], frequency, atol=2e-2)


def test_bins_of_equal_mass_are_equally_full():
    _, probabilities = answers(n=1003)
    bins = reliability_bins(np.zeros(1003), probabilities[:, 0], 10, "mass")
    assert bins.count.sum() == 1003
    assert bins.count.max() - bins.count.min() <= 3


@pytest.mark.parametrize("n", [1, 2, 100])
def test_equal_confidences_share_one_bin_of_equal_mass(n):
    bins = reliability_bins(np.arange(n) % 2 == 0, np.full(n, 0.3), 15, "mass")
    assert bins.count.tolist() == [n]
    assert bins.expected_error == pytest.approx(abs(0.3 - (np.arange(n) % 2 == 0).mean()))


def test_ties_at_the_top_have_a_bin_of_equal_mass_for_themselves():
    event = np.repeat([True, False], 50)  # 0.1 always comes true, 0.9 never
    two = reliability_bins(event, np.repeat([0.1, 0.9], 50), 15, "mass")
    assert two.count.tolist() == [50, 50]
    assert two.expected_error == pytest.approx(0.9)
    sure = np.concatenate([np.linspace(0, 0.99, 70), np.ones(30)])
    assert reliability_bins(np.zeros(100), sure, 10, "mass").count.tolist()[-1] == 30


def test_ties_are_never_parted_between_bins_of_equal_mass():
    confidence = np.round(np.random.default_rng(0).random(500), 1)
    bins = reliability_bins(np.zeros(500), confidence, 15, "mass")
    for value in np.unique(confidence):
        assert len(set(bins.position[confidence == value])) == 1


@pytest.mark.parametrize("kind", ["width", "mass"])
def test_the_parts_of_the_brier_score_add_up_to_scikit_learns(kind):
    y, probabilities = answers()
    event, confidence = y == 1, probabilities[:, 1]
    parts = brier_decomposition(event, confidence, kind=kind)
    assert parts.brier == pytest.approx(brier_score_loss(event, confidence), abs=1e-12)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(parts.brier, abs=1e-12)


def test_murphys_own_case_needs_no_terms_within_bins():
    # Forecasts that take one value a bin: 0.1 (10 times, 1 event) and 0.8 (5 times, 3 events).
    confidence = np.repeat([0.1, 0.8], [10, 5])
    event = np.array([1] + [0] * 9 + [1] * 3 + [0] * 2)
    parts = brier_decomposition(event, confidence, bins=10)
    assert parts.within_bins == pytest.approx(0, abs=1e-15)
    assert parts.reliability == pytest.approx((5 * 0.2**2) / 15)
    base = 4 / 15
    assert parts.resolution == pytest.approx((10 * (0.1 - base) ** 2 + 5 * (0.6 - base) ** 2) / 15)
    assert parts.uncertainty == pytest.approx(base * (1 - base))


@pytest.mark.parametrize("kind", ["width", "mass"])
def test_the_multi_class_parts_add_up_to_the_multi_class_brier_score(kind):
    y, probabilities = answers()
    parts = multiclass_brier_decomposition(y, probabilities, kind=kind)
    assert parts.brier == pytest.approx(image_brier(y, probabilities).mean(), abs=1e-12)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(parts.brier, abs=1e-12)


def test_an_absent_class_counts_by_the_probability_it_was_given():
    y = np.zeros(10, dtype=int)
    probabilities = np.tile([0.6, 0.4, 0.0], (10, 1))
    assert classwise_calibration_error(y, probabilities) == pytest.approx((0.4 + 0.4 + 0) / 3)


def test_chance_explains_the_error_of_a_calibrated_model_and_not_that_of_a_crooked_one():
    random = np.random.default_rng(1)
    confidence = random.random(2000)
    honest = reliability_bins(random.random(2000) < confidence, confidence)
    mean, high = error_if_calibrated(honest, confidence)
    assert 0 < mean < high
    assert honest.expected_error < 1.3 * high
    crooked = reliability_bins(random.random(2000) < confidence**3, confidence)
    assert crooked.expected_error > 3 * high


def test_certain_answers_leave_nothing_to_chance():
    found = reliability_bins(np.array([1, 1, 0]), np.ones(3))
    assert error_if_calibrated(found, np.ones(3)) == (0, 0)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60),
    bins=st.integers(1, 20),
    kind=st.sampled_from(["width", "mass"]),
    seed=st.integers(0, 2**16),
)
def test_order_changes_nothing_and_every_image_is_in_one_bin(rows, bins, kind, seed):
    event, confidence = (np.array(column) for column in zip(*rows, strict=True))
    found = reliability_bins(event, confidence, bins, kind)
    assert found.count.sum() == len(rows)
    assert len(found.edges) == len(found.count) + 1
    assert 0 <= found.expected_error <= found.largest_error + 1e-12 <= 1 + 1e-9
    order = np.random.default_rng(seed).permutation(len(rows))
    other = reliability_bins(event[order], confidence[order], bins, kind)
    np.testing.assert_array_equal(other.count, found.count)
    assert other.expected_error == pytest.approx(found.expected_error, abs=1e-12)
    parts = brier_decomposition(event, confidence, bins, kind)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(parts.brier, abs=1e-12)
