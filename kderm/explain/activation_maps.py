"""Where in a picture a member finds its evidence for a class, on every backend.

Takes a loaded member and the network's own input, gives one small map an image: exact where the
head is linear, by gradients (Grad-CAM) elsewhere. Knows no views, no runs, no tables and no files;
the rest of the room does.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kderm.errors import UserError
from kderm.explain.gradients import features_and_gradients
from kderm.explain.head import contributions, linear_head
from kderm.explain.taps import feature_layers, find_layer, tapped
from kderm.models.classifier import input_size, metadata_width
from kderm.models.native.swap import runs_natively, use_native_graph

__all__ = ["Evidence", "class_activation_maps", "feature_layers", "scaled"]


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
    count = int(classifier.output_shape[-1])
    _check_classes(classes, len(pixels), count)
    _check_metadata(classifier, metadata, len(pixels))
    weights = np.eye(count, dtype=np.float32)[classes][:, None]
    maps = []
    for start in range(0, len(pixels), batch_size):
        rows = slice(start, start + batch_size)
        batch = np.asarray(pixels[rows], np.float32)
        known = None if metadata is None else np.asarray(metadata[rows], np.float32)
        maps.append(_grad_cam(classifier, layer, batch, weights[rows], known)[:, 0])
    whole = np.concatenate(maps) if maps else np.zeros((0, 0, 0))
    return scaled(whole).astype(np.float32)


class Evidence:
    """Evidence for and against weighted sums of a member's logits, by place, signed and unscaled.

    Without a layer's name and with a linear head (`kderm.explain.head`) the maps are exact: their
    mean over places is the sum of logits, but for the bias and what metadata add. Else they are
    Grad-CAM's sum over channels of w·A times the number of places, which is the same where the two
    meet.

    Attributes:
        exact: whether no gradient is needed.
        size: side of the input, pixels.
        classes: k.
        metadata_width: d, 0 for a member of the image alone.
    """

    def __init__(
        self, classifier: keras.Model, layer: str | None = None, batch_size: int = 16
    ) -> None:
        """Args:
        classifier: as for `class_activation_maps`.
        layer: a layer to look into by Grad-CAM; None for what is pooled.
        batch_size: images whose features are held at once.

        Raises:
            UserError: no such layer (nearest ones named), or one without a feature map.
        """
        self.classifier, self.layer, self.batch_size = classifier, layer, batch_size
        self.size, self.classes = input_size(classifier), int(classifier.output_shape[-1])
        self.metadata_width = metadata_width(classifier)
        head = linear_head(classifier) if layer is None else None
        self.exact = head is not None
        if head is None:
            find_layer(classifier, layer)
        else:
            self._head = head
            # Compiled once, where a backend compiles; the tap in the middle is for gradients.
            self._features = keras.Model(classifier.inputs[0], head.pool.input)
            if runs_natively(classifier):
                use_native_graph(self._features)

    def __call__(
        self, pixels: np.ndarray, weights: np.ndarray, metadata: np.ndarray | None = None
    ) -> np.ndarray:
        """Maps of n images.

        Args:
            pixels: float array (n, s, s, 3), 0..255; read batch by batch.
            weights: float array (n, t, k): t sums an image of its k logits.
            metadata: float array (n, d), for a classifier that has this second input.

        Returns:
            float64 array (n, t, h, w).

        Raises:
            UserError: metadata missing, or given to a classifier that takes none.
        """
        weights, n = np.asarray(weights, np.float32), len(pixels)
        if weights.ndim != 3 or (len(weights), weights.shape[2]) != (n, self.classes):
            expected = f"({n}, t, {self.classes})"
            raise ValueError(f"Expected weights {expected}. Received: {weights.shape}.")
        _check_metadata(self.classifier, metadata, n)
        maps = []
        for start in range(0, n, self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = np.asarray(pixels[rows], np.float32)
            known = None if metadata is None else np.asarray(metadata[rows], np.float32)
            if self.exact:
                features = ops.convert_to_numpy(self._features.predict_on_batch(batch))
                maps.append(contributions(self._head, features, weights[rows]))
            else:
                maps.append(_grad_cam(self.classifier, self.layer, batch, weights[rows], known))
        return np.concatenate(maps) if maps else np.zeros((0, weights.shape[1], 0, 0))


def scaled(maps: np.ndarray) -> np.ndarray:
    """What speaks for the class, each map (..., h, w) divided by its maximum; else zero."""
    positive = np.maximum(maps, 0.0)
    if not positive.size:
        return positive
    highest = positive.max(axis=(-2, -1), keepdims=True)
    return np.divide(positive, highest, out=np.zeros_like(positive), where=highest > 0)


def _grad_cam(
    classifier: keras.Model,
    layer: str | None,
    pixels: np.ndarray,
    weights: np.ndarray,
    metadata: np.ndarray | None,
) -> np.ndarray:
    """Signed Grad-CAM, float64 (n, t, h, w), one gradient for each of the t sums."""
    place, taps_input = find_layer(classifier, layer)
    inputs = [ops.convert_to_tensor(pixels)]
    if metadata is not None:
        inputs.append(ops.convert_to_tensor(metadata))

    def forward(tap: Callable[[Any], Any]) -> Any:
        with tapped(place, tap, taps_input):
            return classifier(inputs if len(inputs) > 1 else inputs[0], training=False)

    maps = []
    for number in range(weights.shape[1]):
        features, gradients = features_and_gradients(forward, weights[:, number])
        channels = gradients.sum(axis=(1, 2), dtype=np.float64)
        maps.append(np.einsum("nhwc,nc->nhw", features.astype(np.float64), channels))
    return np.stack(maps, axis=1)


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
