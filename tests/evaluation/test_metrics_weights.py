"""Sums over images for one weight or a batch of them."""

import numpy as np
import pytest

from kderm.evaluation.scores.weights import (
    BLOCK,
    NARROW,
    SHORT,
    mean_of_defined,
    mean_over,
    running_sum,
    summing,
    weight_columns,
)


@pytest.mark.parametrize("rows", [0, 1, SHORT - 1, SHORT, 20 * BLOCK, 20 * BLOCK + 7])
@pytest.mark.parametrize("columns", [1, NARROW - 1, NARROW, 30])
def test_a_running_sum_is_numpys_whatever_the_shape(rows, columns):
    table = np.random.default_rng(0).integers(0, 5, (rows, columns)).astype(float)
    np.testing.assert_array_equal(running_sum(table), np.cumsum(table, axis=0))
    # Also of a view that runs backwards, as the ranks are read from the top.
    np.testing.assert_array_equal(running_sum(table[::-1]), np.cumsum(table[::-1], axis=0))


def test_a_running_sum_of_fractions_is_numpys_up_to_rounding():
    table = np.random.default_rng(0).random((900, 12))
    np.testing.assert_allclose(running_sum(table), np.cumsum(table, axis=0), rtol=1e-13)


def test_images_are_added_up_under_every_weight_of_a_batch():
    row, value = np.array([1, 0, 1, 2]), np.array([1.0, 2.0, 3.0, 4.0])
    weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.5, 1.0]])
    found = summing(row, 4, value) @ weight_columns(weights)
    np.testing.assert_array_equal(found, [[2, 4], [4, 1.5], [4, 4], [0, 0]])


def test_weights_that_lie_with_a_row_an_image_are_not_copied():
    laid_out = np.ones((6, 3))
    assert np.shares_memory(weight_columns(laid_out.T), laid_out)


def test_a_mean_leaves_out_what_is_undefined_and_is_undefined_without_anything():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    assert mean_of_defined(values[0]) == 2
    assert np.isnan(mean_of_defined(values[1]))
    np.testing.assert_array_equal(mean_of_defined(values), [2, np.nan])


def test_a_mean_over_chosen_classes_is_undefined_where_one_of_them_is():
    values = np.array([[1.0, np.nan, 3.0], [2.0, 5.0, np.nan]])
    np.testing.assert_array_equal(mean_over(values, np.array([True, False, True])), [2, np.nan])
    assert np.isnan(mean_over(values, np.zeros(3, bool))).all()
