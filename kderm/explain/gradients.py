"""Features in the middle of a classifier and the gradient of its logits there, on every backend.

One small function a backend, which `kderm.explain.activation_maps` turns into maps.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

Forward = Callable[[Callable[[Any], Any]], Any]  # (what to do to the features) -> logits


def features_and_gradients(forward: Forward, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The features, and the gradient of each image's weighted sum of logits by them.

    Args:
        forward: runs the classifier; what it is given is applied to the features on their way.
        weights: float32 (n, k), what each image's logits are multiplied with before they are added.

    Returns:
        two float32 arrays (n, h, w, c).
    """
    return _BY_BACKEND[keras.backend.backend()](forward, weights)


def _torch_gradients(forward: Forward, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    kept = []

    def tap(features: Any) -> Any:
        # What comes before needs no gradient, and so no memory for one.
        kept.append(features.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return kept[0]

    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    try:
        chosen = _chosen_logits(forward(tap), weights)
        (gradients,) = torch.autograd.grad(chosen, kept)
    finally:
        torch.set_grad_enabled(before)
    return _numpy(kept[0]), _numpy(gradients)


def _tensorflow_gradients(forward: Forward, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    kept = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def tap(features: Any) -> Any:
            tape.watch(features)
            kept.append(features)
            return features

        chosen = _chosen_logits(forward(tap), weights)
    return _numpy(kept[0]), _numpy(tape.gradient(chosen, kept[0]))


def _jax_gradients(forward: Forward, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import jax

    def features_alone() -> Any:
        kept = []
        forward(lambda features: kept.append(features) or features)
        return kept[0]

    def chosen(change: Any) -> tuple[Any, Any]:
        kept = []

        def tap(features: Any) -> Any:
            kept.append(features)
            return features + change

        return _chosen_logits(forward(tap), weights), kept[0]

    shape = jax.eval_shape(features_alone)
    nothing = jax.numpy.zeros(shape.shape, shape.dtype)
    gradients, features = jax.grad(chosen, has_aux=True)(nothing)
    return _numpy(features), _numpy(gradients)


_BY_BACKEND = {
    "torch": _torch_gradients,
    "tensorflow": _tensorflow_gradients,
    "jax": _jax_gradients,
}


def _chosen_logits(logits: Any, weights: np.ndarray) -> Any:
    """The sum over images of each one's weighted logits; images do not touch one another."""
    return ops.sum(ops.cast(logits, "float32") * ops.convert_to_tensor(weights))


def _numpy(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))
