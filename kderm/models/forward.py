"""Forward passes of one member over stored frames, the same in training's checks and prediction.

frames -> Warp(view) -> classifier -> softmax. One `Forward` passes batches of one shape, the last
padded, so that compiled backends compile once; only a full device memory halves it. In a batch of
another shape an image's answer is the same up to the rounding of the device's arithmetic.
"""

from collections.abc import Callable

import keras
import numpy as np

from kderm.data.augment import EFFECTS, plain_colours
from kderm.data.warp import Warp
from kderm.models.classifier import input_size, metadata_width
from kderm.models.native.swap import use_native_graph
from kderm.runtime import halved_batch, is_out_of_memory, release_memory


def warped(classifier: keras.Model, frame: tuple[int, int], effects: bool = False) -> keras.Model:
    """A model from stored frames to logits, its inputs a dict by name.

    Inputs: "images" uint8 (n, H, W, 3), "transforms" float32 (n, 2, 3) and "colours" float32
    (n, 3, 4) as `Warp` takes them; "effects" float32 (n, e) if asked for; "metadata" float32 (n, d)
    if the classifier takes them.

    Args:
        classifier: keras.Model, float32 (size, size, 3) in 0..255 -> logits (k,).
        frame: height and width of the stored frames.
        effects: put the layer `kderm.data.effects.Effects` behind the warp.
    """
    images = keras.Input((*frame, 3), dtype="uint8", name="images")
    transforms = keras.Input((2, 3), dtype="float32", name="transforms")
    colours = keras.Input((3, 4), dtype="float32", name="colours")
    inputs = {"images": images, "transforms": transforms, "colours": colours}
    pixels = Warp(input_size(classifier), name="warp")(images, transforms, colours)
    if effects:
        from kderm.data.effects import Effects

        inputs["effects"] = keras.Input((len(EFFECTS),), dtype="float32", name="effects")
        pixels = Effects(name="effects_on_pixels")(pixels, inputs["effects"])
    seen = pixels
    if width := metadata_width(classifier):
        inputs["metadata"] = keras.Input((width,), dtype="float32", name="metadata")
        seen = [pixels, inputs["metadata"]]
    return keras.Model(inputs, classifier(seen), name="warped")


class Forward:
    """Class probabilities of frames under test-time views, by one classifier."""

    def __init__(
        self,
        classifier: keras.Model,
        frame: tuple[int, int],
        batch_size: int,
        *,
        fused: bool = True,
    ) -> None:
        """Args:
        classifier: keras.Model, float32 (size, size, 3) in 0..255, and metadata (d,) if it has
            that input -> logits (k,).
        frame: height and width of the stored frames.
        batch_size: images a forward pass; smaller last batches are padded to it.
        fused: the native graph on the torch backend (equal outputs).
        """
        if fused:
            use_native_graph(classifier)
        logits = warped(classifier, frame)
        outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(logits.output)
        self.model = keras.Model(logits.input, outputs, name="forward")
        self.metadata_width = metadata_width(classifier)
        self.frame = tuple(frame)
        self.batch_size = batch_size
        self.classes = int(outputs.shape[-1])

    def __call__(
        self,
        images: np.ndarray,
        transforms: np.ndarray,
        progress: Callable[[int, int], None] | None = None,
        *,
        metadata: np.ndarray | None = None,
    ) -> np.ndarray:
        """Probabilities, float32 (n, v, k).

        Args:
            images: uint8 (n, H, W, 3), an array or a memory map; read batch by batch.
            transforms: float32 (v, 2, 3), one per view, see `data.views`.
            progress: called with (images done, n).
            metadata: float32 (n, d), encoded, for a classifier that takes them; else None.
        """
        count = len(images)
        metadata = self._checked(metadata, count)
        result = np.empty((count, len(transforms), self.classes), np.float32)
        start = 0
        while start < count:
            batch = np.asarray(images[start : start + self.batch_size])
            try:
                known = metadata[start : start + len(batch)]
                result[start : start + len(batch)] = self._answer(batch, transforms, known)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                start += len(batch)
                if progress is not None:
                    progress(start, count)
                continue
            # Outside of the handler: its traceback would keep alive what filled the memory.
            self.batch_size = halved_batch(self.batch_size)
            release_memory()
        return result

    def _checked(self, metadata: np.ndarray | None, count: int) -> np.ndarray:
        """`metadata` if they are what the classifier takes; (n, 0) for one that takes none."""
        given = np.empty((count, 0), np.float32) if metadata is None else np.asarray(metadata)
        if given.shape != (count, self.metadata_width):
            raise ValueError(
                f"Expected metadata of shape {(count, self.metadata_width)}, or None for a width "
                f"of 0. Received: {None if metadata is None else given.shape}."
            )
        return given

    def _answer(
        self, batch: np.ndarray, transforms: np.ndarray, metadata: np.ndarray
    ) -> np.ndarray:
        taken, size = len(batch), self.batch_size
        inputs = {"images": _padded(batch, size), "colours": plain_colours(size)}
        if self.metadata_width:
            inputs["metadata"] = _padded(metadata.astype(np.float32), size)
        views = [np.broadcast_to(one, (size, 2, 3)).astype(np.float32) for one in transforms]
        answers = [self.model.predict_on_batch({**inputs, "transforms": view}) for view in views]
        return np.stack([np.asarray(answer)[:taken] for answer in answers], axis=1)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """`rows` and zeros up to `size` rows."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
