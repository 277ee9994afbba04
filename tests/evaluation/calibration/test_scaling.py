"""Temperature and vector scaling, and the nested table that a report may quote."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from kderm.errors import UserError
from kderm.evaluation.calibration.scaling import (
    SHARPEST,
    Scaling,
    fit_scaling,
    fit_temperature,
    fit_vector,
    nested_calibration,
    scaled,
)
from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000

K = 7


def drawn(n=2000, seed=0, sharpness=1.0):
    """Labels drawn from probabilities, and these probabilities made `sharpness` times sharper."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((n, K)) + np.linspace(0, 2, K)
    truth = softmax(logits, axis=1)
    y = (truth.cumsum(axis=1) < random.random((n, 1))).sum(axis=1).clip(max=K - 1)
    return softmax(logits * sharpness, axis=1), y


def table(probabilities, y, folds=5):
    n = len(y)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{i:05d}" for i in range(n)],
            "group_id": [f"g{i // 2}" for i in range(n)],
            "fold": (np.arange(n) // 2) % folds,
            "label": [HAM10000.codes[j] for j in y],
        }
    )
    frame[HAM10000.columns] = probabilities
    return make_predictions(frame, HAM10000)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_probabilities_that_are_calibrated_already_get_a_temperature_of_one(seed):
    probabilities, y = drawn(n=150_000, seed=seed)
    assert fit_temperature(probabilities, y).temperature == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("sharpness", [0.25, 0.5, 2.0, 4.0])
def test_a_known_distortion_is_found_and_undone(sharpness):
    honest, y = drawn(n=20_000)
    distorted, _ = drawn(n=20_000, sharpness=sharpness)
    found = fit_temperature(distorted, y)
    assert found.temperature == pytest.approx(sharpness, rel=0.03)
    np.testing.assert_allclose(found.apply(distorted), honest, atol=0.03)


def test_no_other_temperature_has_a_lower_log_loss():
    probabilities, y = drawn(sharpness=2.5)
    found = fit_temperature(probabilities, y).temperature

    def loss(temperature):
        scaling = Scaling("temperature", (1 / temperature,) * K, (0.0,) * K)
        return log_loss(y, scaling.apply(probabilities), labels=range(K))

    others = [loss(found * factor) for factor in (0.9, 0.99, 0.999, 1.001, 1.01, 1.1)]
    assert loss(found) <= min(others)


def test_vector_scaling_of_two_classes_reaches_the_log_loss_of_logistic_regression():
    random = np.random.default_rng(0)
    score = random.beta(2, 5, 3000)
    y = (random.random(3000) < score**1.5).astype(int)
    probabilities = np.stack([1 - score, score], axis=1)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    features = np.log(probabilities)
    expected = log_loss(y, oracle.fit(features, y).predict_proba(features))
    found = log_loss(y, fit_vector(probabilities, y).apply(probabilities))
    assert found == pytest.approx(expected, abs=1e-6)


def test_vector_scaling_reaches_the_loss_of_a_minimiser_without_derivatives():
    probabilities, y = drawn(n=500, sharpness=1.7)
    probabilities, y = probabilities[y < 3][:, :3], y[y < 3]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    logits = np.log(probabilities)

    def loss(values):
        return -log_softmax(logits * values[:3] + values[3:], axis=1)[np.arange(len(y)), y].mean()

    start = np.array([1.0] * 3 + [0.0] * 3)
    options = {"maxiter": 5000, "maxfev": 5000, "xatol": 1e-8, "fatol": 1e-12}
    oracle = minimize(loss, start, method="Nelder-Mead", options=options)
    found = fit_vector(probabilities, y)
    assert loss(np.array([*found.sharpness, *found.shift])) <= oracle.fun + 1e-6


def test_vector_scaling_takes_back_a_shifted_prior_where_a_temperature_cannot():
    honest, y = drawn(n=10_000)
    shifted = honest * np.array([8, 4, 2, 1, 1, 0.5, 0.25])
    shifted /= shifted.sum(axis=1, keepdims=True)
    vector, temperature = fit_vector(shifted, y), fit_temperature(shifted, y)
    np.testing.assert_allclose(vector.apply(shifted).mean(axis=0), honest.mean(axis=0), atol=0.01)
    assert np.abs(temperature.apply(shifted).mean(axis=0) - honest.mean(axis=0)).max() > 0.05


def test_a_temperature_never_changes_the_order_of_an_images_classes():
    probabilities, y = drawn(sharpness=3.0)
    calibrated = fit_temperature(probabilities, y).apply(probabilities)
    np.testing.assert_array_equal(np.argsort(calibrated), np.argsort(probabilities))


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
def test_perfect_separation_runs_into_the_bound_and_no_further(fit):
    y = np.arange(70) % K
    probabilities = np.full((70, K), 0.05)
    probabilities[np.arange(70), y] = 0.7
    found = fit(probabilities, y)
    assert found.at_bound
    assert max(found.sharpness) <= SHARPEST * (1 + 1e-9)
    assert np.isfinite(found.apply(probabilities)).all()


def test_answers_that_are_noise_are_flattened_as_far_as_the_bound():
    probabilities, _ = drawn(n=300)
    found = fit_temperature(probabilities, probabilities.argmin(axis=1))
    assert found.at_bound
    assert found.temperature == pytest.approx(SHARPEST, rel=1e-3)


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
def test_a_zero_for_the_true_class_is_finite(fit):
    probabilities = np.array([[1.0, 0.0], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    calibrated = fit(probabilities, np.array([1, 1, 0, 1])).apply(probabilities)
    assert np.isfinite(calibrated).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_give_something_bounded(fit, n):
    probabilities, y = drawn(n=n)
    found = fit(probabilities, y)
    assert all(1 / SHARPEST * 0.999 <= value <= SHARPEST * 1.001 for value in found.sharpness)
    np.testing.assert_allclose(found.apply(probabilities).sum(axis=1), 1)


def test_constant_probabilities_leave_everything_as_it_is():
    found = fit_temperature(np.full((10, 2), 0.5), np.arange(10) % 2)
    assert found.temperature == 1
    assert not found.at_bound


def test_rows_without_an_answer_stay_without_one():
    scaling = Scaling("temperature", (0.5,) * 2, (0.0,) * 2)
    calibrated = scaling.apply(np.array([[np.nan, np.nan], [0.2, 0.8]]))
    assert np.isnan(calibrated[0]).all()
    np.testing.assert_allclose(calibrated[1], [1 / 3, 2 / 3])


def test_a_scaling_survives_being_written_down():
    found = fit_vector(*drawn(n=200))
    assert Scaling.from_dict(found.to_dict()) == found
    assert found.temperature is None


def test_probabilities_of_another_label_space_are_refused():
    with pytest.raises(UserError, match=r"fitted on 7 classes.*of 2"):
        fit_temperature(*drawn(n=50)).apply(np.full((3, 2), 0.5))


def test_the_words_say_which_way_a_temperature_goes():
    probabilities, y = drawn(sharpness=2.0)
    assert "less sure" in fit_temperature(probabilities, y).words
    probabilities, y = drawn(sharpness=0.5)
    assert "surer" in fit_temperature(probabilities, y).words


@pytest.mark.parametrize("kind", ["temperature", "vector"])
def test_a_fold_is_calibrated_without_having_been_seen(kind):
    predictions = table(*drawn(n=500, sharpness=2.0))
    nested = nested_calibration(predictions, kind)
    inside = predictions.folds == 2
    others = table(
        predictions.probabilities[~inside], predictions.y[~inside]
    )  # the fold's own rows are not there at all
    expected = fit_scaling(others, kind).apply(predictions.probabilities[inside])
    np.testing.assert_allclose(nested.probabilities[inside], expected, rtol=1e-9)
    assert nested.table.drop(columns=HAM10000.columns).equals(
        predictions.table.drop(columns=HAM10000.columns)
    )


def test_labels_of_a_fold_do_not_move_its_own_numbers():
    predictions = table(*drawn(n=500, sharpness=2.0))
    inside = predictions.folds == 2
    wrong = predictions.table.assign(
        label=np.where(inside, np.roll(predictions.table["label"], 2), predictions.table["label"])
    )
    before = nested_calibration(predictions).probabilities
    after = nested_calibration(make_predictions(wrong, HAM10000)).probabilities
    np.testing.assert_array_equal(before[inside], after[inside])
    assert (before[~inside] != after[~inside]).any()


def test_nested_calibration_mends_a_table_that_is_too_sure():
    predictions = table(*drawn(n=3000, sharpness=3.0))
    before = log_loss(predictions.y, predictions.probabilities, labels=range(K))
    after = log_loss(predictions.y, nested_calibration(predictions).probabilities, labels=range(K))
    honest = log_loss(predictions.y, drawn(n=3000)[0], labels=range(K))
    assert after < before - 0.1
    assert after == pytest.approx(honest, abs=0.01)


@pytest.mark.parametrize("folds", [0, 1])
def test_a_table_without_several_folds_is_refused(folds):
    predictions = table(*drawn(n=20), folds=1)
    if folds == 0:
        without = predictions.table.drop(columns="fold")
        predictions = make_predictions(without, HAM10000)
    with pytest.raises(UserError, match=r"two folds or more. Received: (1|no) fold"):
        nested_calibration(predictions)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_the_order_of_the_rows_changes_no_calibrated_number(seed):
    predictions = table(*drawn(n=200, seed=seed, sharpness=1.5))
    order = np.random.default_rng(seed).permutation(200)
    shuffled = make_predictions(predictions.table.iloc[order], HAM10000)
    found = nested_calibration(shuffled).probabilities
    np.testing.assert_allclose(
        found, nested_calibration(predictions).probabilities[order], rtol=1e-4
    )


def test_scaled_predictions_keep_everything_but_their_probabilities():
    predictions = table(*drawn(n=50))
    scaling = Scaling("temperature", (0.5,) * K, (0.0,) * K)
    found = scaled(predictions, scaling)
    np.testing.assert_allclose(found.probabilities, scaling.apply(predictions.probabilities))
    assert found.labels is predictions.labels
    assert found.table["image_id"].tolist() == predictions.table["image_id"].tolist()
