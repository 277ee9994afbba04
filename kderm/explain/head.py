"""Exact class-activation maps: what each place adds to a logit, where the head is linear.

The head is pool -> [joined to metadata] -> dropout -> logits, so a logit is a sum over places plus
a constant (the bias and the part of the metadata), and no gradient is needed. Whether this or
Grad-CAM is used is decided in `kderm.explain.activation_maps`.
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kderm.explain.taps import POOL
from kderm.models.classifier import GeM, MultiSampleDropout

LOGITS = "logits"
_IDLE = (keras.layers.Dropout, MultiSampleDropout)  # when not training
_POOLINGS = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D, GeM)


@dataclass(frozen=True)
class LinearHead:
    """A head whose logits are sums over places.

    Attributes:
        pool: the pooling layer; its input is the backbone's last feature map (n, h, w, c).
        kernel: float32 (c, k), the rows of the last layer's kernel that the image's features meet.
    """

    pool: keras.layers.Layer
    kernel: np.ndarray


def linear_head(classifier: keras.Model) -> LinearHead | None:
    """The classifier's head if its logits are linear in what is pooled, else None."""
    layers = {layer.name: layer for layer in classifier.layers}
    pool, logits = layers.get(POOL), layers.get(LOGITS)
    plain = isinstance(logits, keras.layers.Dense) and logits.activation is keras.activations.linear
    if not plain or not isinstance(pool, _POOLINGS) or classifier.outputs != [logits.output]:
        return None
    tensor, first = logits.input, 0
    while isinstance(tensor._keras_history.operation, _IDLE):
        tensor = tensor._keras_history.operation.input
    joined = tensor._keras_history.operation
    if isinstance(joined, keras.layers.Concatenate):
        for part in joined.input:
            if part is pool.output:
                tensor = part
                break
            first += part.shape[-1]
    if tensor is not pool.output:
        return None
    kernel = ops.convert_to_numpy(ops.cast(logits.kernel, "float32"))
    return LinearHead(pool, kernel[first : first + pool.output.shape[-1]])


def contributions(head: LinearHead, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each place adds to weighted sums of logits; the mean over places is the sum, exactly.

    That is all of it but the bias and what metadata add. With average pooling it is the
    class-activation map of Zhou et al. 2016, arXiv:1512.04150, eq. 2. Differs: other poolings get
    their own exact parts, see `_parts_of_pooled`.

    Args:
        head: what `linear_head` found.
        features: float array (n, h, w, c), what is pooled.
        weights: float array (n, t, k): t sums an image of its k logits.

    Returns:
        float64 array (n, t, h, w).
    """
    channels = np.einsum("ck,ntk->ntc", head.kernel.astype(np.float64), weights)
    parts = _parts_of_pooled(head.pool, features.astype(np.float64))
    return np.einsum("nhwc,ntc->nthw", parts, channels)


def _parts_of_pooled(pool: keras.layers.Layer, features: np.ndarray) -> np.ndarray:
    """(n, h, w, c) whose mean over places is the pooled feature, each place having its share.

    A maximum belongs to the places that reach it; of a generalised mean (1/N sum x^p)^(1/p) a place
    has the share x^p / sum x^p.
    """
    if isinstance(pool, keras.layers.GlobalAveragePooling2D):
        return features
    places = (1, 2)
    if isinstance(pool, GeM):
        exponent = max(float(ops.convert_to_numpy(pool.exponent)), 1.0)
        raised = np.maximum(features, pool.epsilon) ** exponent
        pooled = raised.mean(axis=places, keepdims=True) ** (1.0 / exponent)
    else:
        pooled = features.max(axis=places, keepdims=True)
        raised = (features == pooled).astype(np.float64)
    return pooled * raised / raised.mean(axis=places, keepdims=True)
