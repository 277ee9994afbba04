"""Shared by the tests of the models: an empty machine, and comparisons of steps and backends."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.models.native.swap import use_keras_layers, use_native_graph


@pytest.fixture
def empty_machine(tmp_path, monkeypatch):
    """No weights in any cache of this machine."""
    monkeypatch.setenv("KDERM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def no_network(monkeypatch):
    """No connection opens; the addresses that one was asked for."""
    asked = []

    def refuse(address, *args, **kwargs):
        asked.append(address)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


@pytest.fixture
def mixed_bfloat16():
    """New layers compute in bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def draw_weights():
    """The function `drawn`: a model with weights under which every layer matters."""
    return drawn


def drawn(model, seed=0):
    """Weights under which every layer matters: statistics and biases of batch norms are random."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if len(shape) > 1:
                values.append(rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape))
            elif "gamma" in weight.path or "variance" in weight.path:
                values.append(rng.uniform(0.5, 1.5, shape))
            else:
                values.append(rng.normal(0, 0.2, shape))
        if values and not isinstance(layer, keras.layers.Normalization):
            layer.set_weights(values)
    return model


@pytest.fixture(scope="session")
def assert_same_step():
    """Asserts that a step with Keras' layers and a native one (torch) agree."""
    return _assert_same_step


def _assert_same_step(model, inputs, *, training, tolerance=2e-5):
    """Take one step with Keras' layers and one natively: outputs and gradients must agree.

    Returns the moving statistics after the step, by path.
    """
    import torch

    use_keras_layers(model)
    shape = model(inputs).shape
    direction = torch.tensor(np.random.default_rng(1).normal(size=shape).astype("float32"))
    stock = one_step(model, inputs, direction, training=training)
    assert use_native_graph(model)
    fast = one_step(model, inputs, direction, training=training)
    use_keras_layers(model)
    assert relative_error(stock[0], fast[0]) < tolerance
    assert stock[1].keys() == fast[1].keys()
    whole = [np.concatenate([g.ravel() for g in side[1].values()]) for side in (stock, fast)]
    assert relative_error(*whole) < 10 * tolerance
    assert stock[2].keys() == fast[2].keys()
    for path, value in stock[2].items():
        np.testing.assert_allclose(fast[2][path], value, rtol=1e-4, atol=1e-5, err_msg=path)
    return fast[2]


def one_step(model, inputs, direction, *, training):
    """Outputs, gradients and moving statistics of one step from the same state and seed."""
    import torch

    before = [variable.numpy().copy() for variable in model.variables]
    model.zero_grad()
    keras.utils.set_random_seed(7)
    x = torch.tensor(inputs, requires_grad=True)
    outputs = model(x, training=training)
    (outputs.to(torch.float32) * direction).sum().backward()
    gradients = {
        variable.path: variable.value.grad.numpy().copy() for variable in model.trainable_variables
    }
    moved = {
        variable.path: variable.numpy().copy()
        for variable in model.variables
        if variable.path.rsplit("/", 1)[-1].startswith("moving_")
    }
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    gradients["inputs"] = x.grad.numpy().copy()
    return outputs.detach().to(torch.float32).numpy().copy(), gradients, moved


def relative_error(expected, found):
    return np.linalg.norm(expected - found) / max(np.linalg.norm(expected), 1e-6)


@pytest.fixture(scope="session")
def ask():
    """The function `asked`: what another backend makes of a saved member and of the losses."""
    return asked


def asked(backend, images, member):
    """The report of `on_a_backend.py` on the two files under `backend`."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("on_a_backend.py"), images, member],
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
