"""Grad-CAM: where in a picture a member finds its evidence for a class, on every backend.

Takes a loaded member and the network's own input, gives one small map an image. Knows no runs, no
tables and no files; `kderm.explain.examples` and `kderm.explain.figure` do.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kderm.errors import UserError, unknown_name
from kderm.models.classifier import metadata_width

# The layer whose input is the backbone's last feature map; see `kderm.models.classifier`.
POOL = "pool"

_Forward = Callable[[Callable[[Any], Any]], Any]  # (what to do to the features) -> logits


def class_activation_maps(
    classifier: keras.Model,
    pixels: np.ndarray,
    classes: np.ndarray,
    *,
    layer: str | None = None,
    metadata: np.ndarray | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """The evidence for one class an image, by place: Grad-CAM, scaled to a maximum of 1.

    map = max(0, sum over channels of w·A), where A is a feature map and w, one number a channel,
    the mean over places of d logit / d A. Source: Selvaraju et al. 2017, arXiv:1610.02391, eq. 1
    and 2. Differs: each map is divided by its maximum; one without positive evidence stays zero.
    The answer for an image does not depend on the others, nor on `batch_size` beyond rounding.

    Args:
        classifier: float32 (n, s, s, 3) in 0..255, and metadata if it has that input -> logits
            (n, k). Left as it was, fast layers or not.
        pixels: float array (n, s, s, 3), 0..255; read batch by batch.
        classes: int array (n,), the class each map is for.
        layer: a layer whose output is a feature map (n, h, w, c); by default what is pooled.
        metadata: float array (n, d), for a classifier that has this second input.
        batch_size: images whose features and gradients are held at once.

    Returns:
        float32 array (n, h, w), in [0, 1], h and w those of the feature map.

    Raises:
        UserError: no such layer (nearest ones named), or one without a feature map; a class out of
            range; metadata missing, or given to a classifier that takes none.
    """
    classes = np.asarray(classes)
    _check_classes(classes, len(pixels), int(classifier.output_shape[-1]))
    _check_metadata(classifier, metadata, len(pixels))
    place, taps_input = _find_layer(classifier, layer)
    maps = []
    for start in range(0, len(pixels), batch_size):
        rows = slice(start, start + batch_size)
        inputs = [ops.convert_to_tensor(np.asarray(pixels[rows], np.float32))]
        if metadata is not None:
            inputs.append(ops.convert_to_tensor(np.asarray(metadata[rows], np.float32)))

        def forward(tap: Callable[[Any], Any], inputs: list = inputs) -> Any:
            with _tapped(place, tap, taps_input):
                return classifier(inputs if len(inputs) > 1 else inputs[0], training=False)

        features, gradients = _GRADIENTS[keras.backend.backend()](forward, classes[rows])
        maps.append(_grad_cam(features, gradients))
    return np.concatenate(maps) if maps else np.zeros((0, 0, 0), np.float32)


def feature_layers(classifier: keras.Model) -> list[str]:
    """Names of the layers that `layer` may be: those whose output is (n, h, w, c), in order."""
    return [
        layer.name
        for layer in classifier.layers
        if not isinstance(layer, keras.layers.InputLayer) and _gives_feature_map(layer)
    ]


def _grad_cam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """float32 (n, h, w) from features and gradients (n, h, w, c)."""
    weights = gradients.mean(axis=(1, 2), dtype=np.float64)
    maps = np.maximum(np.einsum("nhwc,nc->nhw", features.astype(np.float64), weights), 0.0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0).astype(np.float32)


# === Where to look in ===


def _find_layer(classifier: keras.Model, name: str | None) -> tuple[keras.layers.Layer, bool]:
    """The layer to tap, and whether at its input."""
    by_name = {layer.name: layer for layer in classifier.layers}
    if name is None and POOL in by_name:
        return by_name[POOL], True
    known = feature_layers(classifier)
    if name is None:
        raise UserError(
            f"The model has no layer called {POOL!r}, so name the layer to look into: one of "
            f"{', '.join(known[-12:]) or 'none (it has no feature map)'}."
        )
    if name not in by_name:
        raise unknown_name("layer", name, known)
    if name not in known:
        raise UserError(
            "A class-activation map needs a layer whose output is a feature map (n, h, w, c). "
            f"Received: {name!r}, which gives none. The last ones that do: {', '.join(known[-8:])}."
        )
    return by_name[name], False


def _gives_feature_map(layer: keras.layers.Layer) -> bool:
    outputs = [output for node in layer._inbound_nodes for output in node.output_tensors]
    return bool(outputs) and all(len(output.shape) == 4 for output in outputs)


@contextlib.contextmanager
def _tapped(layer: keras.layers.Layer, tap: Callable, taps_input: bool) -> Iterator[None]:
    """Within the block, what passes through `layer` goes through `tap` first (or last).

    The bound `call` of the one object is exchanged, as `kderm.models.fused` does: a model with a
    second output would leave nodes in the classifier's graph, and JAX could not get at its middle.
    """
    call, own = layer.call, layer.__dict__.get("call")

    def tapped_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if taps_input:
            return call(tap(inputs), *args, **kwargs)
        return tap(call(inputs, *args, **kwargs))

    layer.__dict__["call"] = tapped_call
    try:
        yield
    finally:
        if own is None:
            del layer.__dict__["call"]
        else:
            layer.__dict__["call"] = own


# === One backend each: features, and d logit / d features, both (n, h, w, c) ===


def _torch_gradients(forward: _Forward, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        chosen = _chosen_logits(forward(tap), classes)
        (gradients,) = torch.autograd.grad(chosen, kept)
    finally:
        torch.set_grad_enabled(before)
    return _numpy(kept[0]), _numpy(gradients)


def _tensorflow_gradients(forward: _Forward, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    kept = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def tap(features: Any) -> Any:
            tape.watch(features)
            kept.append(features)
            return features

        chosen = _chosen_logits(forward(tap), classes)
    return _numpy(kept[0]), _numpy(tape.gradient(chosen, kept[0]))


def _jax_gradients(forward: _Forward, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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

        return _chosen_logits(forward(tap), classes), kept[0]

    shape = jax.eval_shape(features_alone)
    nothing = jax.numpy.zeros(shape.shape, shape.dtype)
    gradients, features = jax.grad(chosen, has_aux=True)(nothing)
    return _numpy(features), _numpy(gradients)


_GRADIENTS = {
    "torch": _torch_gradients,
    "tensorflow": _tensorflow_gradients,
    "jax": _jax_gradients,
}


def _chosen_logits(logits: Any, classes: np.ndarray) -> Any:
    """The sum over images of each one's logit of its class; images do not touch one another."""
    chosen = np.zeros(tuple(logits.shape), np.float32)
    chosen[np.arange(len(classes)), classes] = 1.0
    return ops.sum(ops.cast(logits, "float32") * ops.convert_to_tensor(chosen))


def _numpy(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


# === What may be asked ===


def _check_classes(classes: np.ndarray, images: int, count: int) -> None:
    fits = classes.shape == (images,) and np.issubdtype(classes.dtype, np.integer)
    if not fits or (images and (classes.min() < 0 or classes.max() >= count)):
        raise UserError(
            f"Expected one class an image, {images} whole numbers from 0 to {count - 1}. "
            f"Received: {classes.dtype} of shape {classes.shape}, {classes[:10].tolist()}."
        )


def _check_metadata(classifier: keras.Model, metadata: np.ndarray | None, images: int) -> None:
    width = metadata_width(classifier)
    expected = (images, width) if width else None
    received = None if metadata is None else np.shape(metadata)
    if received != expected:
        raise UserError(
            f"Expected {f'metadata of shape {expected}' if width else 'no metadata'}, which is "
            f"what the classifier takes. Received: "
            f"{'none' if received is None else f'shape {received}'}."
        )
