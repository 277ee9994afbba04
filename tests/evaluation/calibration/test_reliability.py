"""Reliability bins and the expected calibration error."""

import numpy as np
import pytest

from kderm.evaluation.calibration.reliability import (
    expected_calibration_error,
    reliability_bins,
    top_label,
)


def test_the_error_equals_its_definition_bin_by_bin():
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 500)
    probabilities = random.dirichlet(np.ones(3), size=500)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == y
    expected = 0.0
    for b in range(10):
        inside = (confidence >= b / 10) & (confidence < (b + 1) / 10)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(y, probabilities, bins=10) == pytest.approx(expected)


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_the_worst():
    assert expected_calibration_error(np.array([0, 1]), np.eye(2)) == 0
    assert expected_calibration_error(np.array([1, 0]), np.eye(2)) == 1


def test_a_uniform_guess_on_balanced_classes_is_calibrated():
    y = np.arange(4).repeat(5)
    assert expected_calibration_error(y, np.full((20, 4), 0.25)) == pytest.approx(0)


def test_probabilities_drawn_from_themselves_are_nearly_calibrated():
    random = np.random.default_rng(1)
    confidence = random.random(20_000)
    bins = reliability_bins(random.random(20_000) < confidence, confidence)
    assert bins.expected_error < 0.02


def test_empty_bins_are_undefined_and_every_image_is_in_one_bin():
    bins = reliability_bins(np.array([1, 0, 1]), np.array([0.0, 0.5, 1.0]), bins=4)
    assert bins.count.tolist() == [1, 0, 1, 1]
    assert np.isnan(bins.confidence[1])
    assert np.isnan(bins.frequency[1])


def test_a_rounding_error_above_one_stays_in_the_last_bin():
    bins = reliability_bins(np.array([1]), np.array([1 + 1e-7]))
    assert bins.count[-1] == 1


def test_the_top_label_is_the_most_probable_class():
    right, confidence = top_label(np.array([0, 0]), np.array([[0.7, 0.3], [0.4, 0.6]]))
    assert right.tolist() == [True, False]
    assert confidence.tolist() == [0.7, 0.6]
