"""What one backend makes of a saved member and of the losses; a process has but one backend.

As a script, `python on_a_backend.py IMAGES.npy MEMBER.keras` prints one line of JSON.
"""

import json
import sys

import keras
import numpy as np

from kderm.models.classifier import load_classifier
from kderm.models.losses import BinaryCrossEntropy, FocalLoss, LdamLoss
from kderm.models.native.swap import use_native_graph

# Sure and right, sure and wrong, all equal, and far beyond what exp() holds in float32; label 0.
EDGES = np.array(
    [[200, 0, 0], [0, 200, 0], [7, 7, 7], [1e30, -1e30, 0], [-1e4, 1e4, 0], [20, 0, 0]], "float32"
)


def loss_batch():
    """Labels (16,) and logits (16, 5)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, 16), (3 * rng.normal(size=(16, 5))).astype("float32")


def gradient(loss, labels, logits):
    """d loss / d logits, (n, k)."""
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        x = torch.tensor(logits, requires_grad=True)
        loss(labels, x).backward()
        return x.grad.numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: loss(labels, x))(logits))
    import tensorflow as tf

    x = tf.Variable(logits)
    with tf.GradientTape() as tape:
        result = loss(labels, x)
    return tape.gradient(result, x).numpy()


def losses():
    """Values and gradients of the focal loss, for each gamma and smoothing."""
    labels, logits = loss_batch()
    zeros = np.zeros(len(EDGES), "int64")
    return [
        {
            "gamma": gamma,
            "smoothing": smoothing,
            "value": float(loss(labels, logits)),
            "gradient": gradient(loss, labels, logits).tolist(),
            "edge_value": float(loss(zeros, EDGES)),
            "edge_gradient": gradient(loss, zeros, EDGES).tolist(),
        }
        for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)
        for smoothing in (0.0, 0.1)
        for loss in [FocalLoss(gamma, smoothing)]
    ]


def losses_on_targets():
    """Values and gradients of every loss on targets, shares of two classes times weights."""
    labels, logits = loss_batch()
    rng = np.random.default_rng(1)
    share = rng.uniform(size=(len(labels), 1))
    weights = rng.uniform(0.2, 3, 5)
    mixed = (share * np.eye(5)[labels] + (1 - share) * np.eye(5)[np.roll(labels, 1)]) * weights
    two = np.concatenate([share, 4 * (1 - share)], axis=1)
    cases = [
        (FocalLoss(2.0, 0.1), mixed, logits),
        (FocalLoss(0.0), mixed, logits),
        (LdamLoss([400, 30, 5, 80, 7]), mixed, logits),
        (BinaryCrossEntropy(0.1), two, logits[:, :2]),
    ]
    return [
        {
            "name": loss.name,
            "value": float(loss(targets.astype("float32"), on)),
            "gradient": gradient(loss, targets.astype("float32"), on).tolist(),
        }
        for loss, targets, on in cases
    ]


def main(images, path):
    """Print all of it as JSON; `fast`: whether the member could run natively."""
    member = load_classifier(path)
    logits = member.predict(np.load(images), verbose=0)
    report = {
        "backend": keras.backend.backend(),
        "logits": logits.tolist(),
        "fast": use_native_graph(member),
        "keras_cv": "keras_cv" in sys.modules,
        "losses": losses(),
        "losses_on_targets": losses_on_targets(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
