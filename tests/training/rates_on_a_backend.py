"""What one backend makes of rates by layer; a process has but one backend.

As a script, `python rates_on_a_backend.py` prints one line of JSON.
"""

import json

import keras
import numpy as np

from kderm.training.optimizer import build_optimizer

STEPS = 4
FACTORS = {"first/kernel": 0.1, "first/bias": 0.1, "second/kernel": 1.0, "second/bias": 1.0}


def network():
    """Two dense layers whose weights are the same under every backend."""
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(2, name="second")(keras.layers.Dense(4, name="first")(inputs))
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    return model


def optimizer(**options):
    """As in a phase of `STEPS` batches."""
    defaults = {
        "peak": 0.05,
        "steps": STEPS,
        "warmup": 0.25,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "ema": None,
        "accumulate": 1,
    }
    return build_optimizer(**defaults | options)


def trained(**options):
    """Weights by path after `STEPS` compiled steps, and the optimizer."""
    model, rng = network(), np.random.default_rng(1)
    model.compile(optimizer(**options), loss="mse")
    for _ in range(STEPS):
        x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
        model.train_on_batch(x.astype("float32"), y.astype("float32"))
    weights = {item.path: keras.ops.convert_to_numpy(item.value).tolist() for item in model.weights}
    return weights, model.optimizer


CASES = {
    "plain": {},
    "factors": {"factors": FACTORS},
    "averaged": {"factors": FACTORS, "ema": 0.5},
    "accumulated": {"factors": FACTORS, "accumulate": 2},
    "one_cycle": {"schedule": "one_cycle"},
    "plateau": {"schedule": "plateau", "factors": FACTORS},
}


def report():
    """Weights after training, by case."""
    return {name: trained(**options)[0] for name, options in CASES.items()}


if __name__ == "__main__":
    print(json.dumps(report()))
