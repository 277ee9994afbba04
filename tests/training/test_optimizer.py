"""The course of the learning rate, and rates by layer against hand-made optimizers."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.training.optimizer import inner_optimizer, learning_rate

SCRIPT = Path(__file__).with_name("rates_on_a_backend.py")
OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})


@pytest.fixture(scope="module")
def here():
    return runpy.run_path(str(SCRIPT))


def course(schedule, steps=100, *, peak=1.0, warmup=0.1, decay=0.1, decay_steps=None):
    rate = learning_rate(schedule, peak, steps, warmup, decay, decay_steps)
    return np.array([float(rate(step)) for step in range(steps)])


# === Schedules ===


def test_cosine_rises_to_the_peak_and_falls_to_a_hundredth():
    rates = course("cosine")
    np.testing.assert_allclose(rates[:11], np.arange(11) / 10, atol=1e-6)
    share = np.arange(90) / 90
    falling = 0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2
    np.testing.assert_allclose(rates[10:], falling, atol=1e-6)


def test_one_cycle_is_that_of_torch_from_a_25th_up_and_down_to_a_ten_thousandth():
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.zeros(1))
    stepper = torch.optim.SGD([weight], lr=1.0)
    # torch counts the end from the start: 1 / 25 / 400 is a ten-thousandth of the peak.
    peer = torch.optim.lr_scheduler.OneCycleLR(
        stepper, max_lr=1.0, total_steps=101, pct_start=0.31, div_factor=25, final_div_factor=400
    )
    expected = []
    for _ in range(101):
        expected.append(peer.get_last_lr()[0])
        stepper.step()
        peer.step() if len(expected) < 101 else None
    # torch puts the peak at step 0.31 * 101 - 1 = 30.31 of 100, kderm at step 30.
    rates = course("one_cycle", 101, warmup=0.5)
    np.testing.assert_allclose(rates, expected, atol=0.02)
    assert rates[0] == pytest.approx(1 / 25)
    assert rates.argmax() == 30
    assert rates.max() == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)


def test_steps_fall_by_their_factor_after_every_so_many_batches():
    rates = course("step", 30, warmup=0.1, decay=0.5, decay_steps=10)
    np.testing.assert_allclose(rates[:4], [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    np.testing.assert_allclose(rates[3:], [1] * 7 + [0.5] * 10 + [0.25] * 10, atol=1e-6)
    with pytest.raises(ValueError, match="decay_steps"):
        course("step")


def test_a_fall_comes_at_the_very_step_in_long_runs_too():
    rate = learning_rate("step", 1.0, 300_000, 0.0, 0.5, 8137)
    for falls in (1, 7, 30):
        at = falls * 8137
        assert float(rate(at - 1)) / float(rate(at)) == pytest.approx(2, rel=1e-5)
        assert float(rate(at)) == pytest.approx(0.5**falls, rel=1e-5)


def test_a_constant_rate_warms_up_and_stays():
    rates = course("constant")
    np.testing.assert_allclose(rates, np.minimum(np.arange(100) / 10, 1), atol=1e-6)
    assert (course("constant", warmup=0.0) == 1).all()


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "step", "constant"])
def test_a_phase_of_one_step_has_a_rate(schedule):
    (rate,) = course(schedule, 1, warmup=0.0, decay_steps=1)
    assert 0 < rate <= 1


def test_plateau_holds_its_rate_in_a_variable_that_can_be_lowered_and_saved(here):
    optimizer = here["optimizer"](schedule="plateau")
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.05)
    optimizer.learning_rate = 0.005
    saved = {item.path: float(item.numpy()) for item in optimizer.variables if item.shape == ()}
    assert saved["adamw/learning_rate"] == pytest.approx(0.005)


def test_an_unknown_schedule_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="one_cycle"):
        learning_rate("onecycle", 1.0, 10, 0.1, 0.1, None)


# === Rates by layer ===


def by_hand(here, factors, **options):
    """Weights after training with one optimizer a layer, each at its own rate."""
    model, rng = here["network"](), np.random.default_rng(1)
    layers = [model.get_layer("first"), model.get_layer("second")]
    optimizers = []
    for layer in layers:
        rate = 0.05 * factors[f"{layer.name}/kernel"]
        one = here["optimizer"](peak=rate, clip_norm=None, **options)
        one.build(layer.trainable_variables)
        optimizers.append(one)
    for _ in range(here["STEPS"]):
        x, y = rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
        grads = analytic_gradients(model, x, y)
        norm = np.sqrt(sum((grad**2).sum() for grad in grads.values()))
        for layer, one in zip(layers, optimizers, strict=True):
            clipped = [grads[item.path] / max(norm, 1.0) for item in layer.trainable_variables]
            one.apply([keras.ops.convert_to_tensor(grad) for grad in clipped])
    return {item.path: item.numpy() for item in model.weights}


def analytic_gradients(model, x, y):
    """Gradients of the mean squared error of two dense layers, by path."""
    first, bias, second, shift = (weight.astype("float64") for weight in model.get_weights())
    hidden = x @ first + bias
    slope = 2 * (hidden @ second + shift - y) / y.size
    below = slope @ second.T
    grads = {
        "first/kernel": x.T @ below,
        "first/bias": below.sum(axis=0),
        "second/kernel": hidden.T @ slope,
        "second/bias": slope.sum(axis=0),
    }
    return {path: grad.astype("float32") for path, grad in grads.items()}


def test_rates_by_layer_are_those_of_one_optimizer_a_layer(here):
    factors = here["FACTORS"]
    found, _ = here["trained"](factors=factors)
    expected = by_hand(here, factors)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-4, atol=1e-6, err_msg=path)
    plain, _ = here["trained"]()
    assert np.abs(np.array(plain["first/kernel"]) - found["first/kernel"]).max() > 1e-3


def test_factors_of_one_change_nothing_to_the_last_bit(here):
    ones = dict.fromkeys(here["FACTORS"], 1.0)
    assert here["trained"](factors=ones)[0] == here["trained"]()[0]
    optimizer = here["optimizer"](factors=ones)
    assert "_apply_weight_decay" not in vars(optimizer)


def test_a_layer_of_rate_zero_stays_where_it_was(here):
    factors = here["FACTORS"] | {"first/kernel": 0.0, "first/bias": 0.0}
    found, _ = here["trained"](factors=factors)
    start = {item.path: item.numpy() for item in here["network"]().weights}
    np.testing.assert_array_equal(np.float32(found["first/kernel"]), start["first/kernel"])
    assert np.abs(found["second/kernel"] - start["second/kernel"]).max() > 1e-3


def test_the_rate_that_is_logged_is_that_of_the_head(here):
    _, optimizer = here["trained"](factors=here["FACTORS"], schedule="constant", warmup=0.0)
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.05)


def test_loss_scaling_around_it_keeps_the_rates_by_layer(here):
    plain, _ = here["trained"](factors=here["FACTORS"])
    model, rng = here["network"](), np.random.default_rng(1)
    optimizer = here["optimizer"](factors=here["FACTORS"])
    scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model.compile(scaled, loss="mse")
    for _ in range(here["STEPS"]):
        x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
        model.train_on_batch(x.astype("float32"), y.astype("float32"))
    assert inner_optimizer(model.optimizer) is optimizer
    for item in model.weights:
        np.testing.assert_allclose(item.numpy(), plain[item.path], rtol=1e-4, atol=1e-6)


def test_a_variable_without_a_factor_is_an_error(here):
    factors = dict(here["FACTORS"])
    del factors["second/bias"]
    with pytest.raises(KeyError, match="second/bias"):
        here["trained"](factors=factors)


@pytest.mark.parametrize("backend", OTHERS)
def test_every_backend_takes_the_same_steps(backend, here):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = json.loads(done.stdout.splitlines()[-1]), here["report"]()
    assert theirs.keys() == ours.keys()
    for name, weights in ours.items():
        for path, value in weights.items():
            np.testing.assert_allclose(
                theirs[name][path], value, rtol=1e-4, atol=1e-5, err_msg=f"{name} {path}"
            )
