"""Forward passes of one member over stored frames, the same in training's checks and prediction.

frames -> Warp(view) -> classifier -> softmax. One `Forward` passes batches of one shape, the last
padded, so that compiled backends compile once; only a full device memory halves it. In a batch of
another shape an image's answer is the same up to the rounding of the device's arithmetic.
"""

from collections.abc import Callable

import numpy as np

from kderm import console
from kderm.data.augment import plain_colours
from kderm.data.warp import Warp
from kderm.errors import UserError
from kderm.models.fused import use_fused_layers
from kderm.runtime import is_out_of_memory, release_memory


def warped(classifier, frame: tuple[int, int]):  # noqa: ANN201 (keras types stay unimported)
    """A model from stored frames to logits: inputs (images uint8, transforms, colours)."""
    import keras

    images = keras.Input((*frame, 3), dtype="uint8", name="images")
    transforms = keras.Input((2, 3), dtype="float32", name="transforms")
    colours = keras.Input((3, 4), dtype="float32", name="colours")
    pixels = Warp(classifier.input_shape[1], name="warp")(images, transforms, colours)
    return keras.Model([images, transforms, colours], classifier(pixels), name="warped")


class Forward:
    """Class probabilities of frames under test-time views, by one classifier."""

    def __init__(
        self, classifier, frame: tuple[int, int], batch_size: int, *, fused: bool = True
    ) -> None:
        """Args:
        classifier: keras.Model, float32 (size, size, 3) in 0..255 -> logits (k,).
        frame: height and width of the stored frames.
        batch_size: images a forward pass; smaller last batches are padded to it.
        fused: fast layers on the torch backend (equal outputs).
        """
        import keras

        if fused:
            use_fused_layers(classifier)
        logits = warped(classifier, frame)
        outputs = keras.layers.Softmax(dtype="float32", name="probabilities")(logits.output)
        self.model = keras.Model(logits.inputs, outputs, name="forward")
        self.frame = tuple(frame)
        self.batch_size = batch_size
        self.classes = int(outputs.shape[-1])

    def __call__(
        self,
        images: np.ndarray,
        transforms: np.ndarray,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Probabilities, float32 (n, v, k).

        Args:
            images: uint8 (n, H, W, 3), an array or a memory map; read batch by batch.
            transforms: float32 (v, 2, 3), one per view, see `data.views`.
            progress: called with (images done, n).
        """
        count = len(images)
        result = np.empty((count, len(transforms), self.classes), np.float32)
        start = 0
        while start < count:
            batch = np.asarray(images[start : start + self.batch_size])
            try:
                result[start : start + len(batch)] = self._answer(batch, transforms)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_batch()
                continue
            start += len(batch)
            if progress is not None:
                progress(start, count)
        return result

    def _answer(self, batch: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        taken, size = len(batch), self.batch_size
        if taken < size:
            padding = np.zeros((size - taken, *self.frame, 3), np.uint8)
            batch = np.concatenate([batch, padding])
        colours = plain_colours(size)
        views = [np.broadcast_to(one, (size, 2, 3)).astype(np.float32) for one in transforms]
        answers = [self.model.predict_on_batch([batch, view, colours]) for view in views]
        return np.stack([np.asarray(answer)[:taken] for answer in answers], axis=1)

    def _halve_batch(self) -> None:
        if self.batch_size == 1:
            raise UserError(
                "The device's memory is full with one image a forward pass. Expected room for one: "
                "close other programs on the device, or run on the CPU (CUDA_VISIBLE_DEVICES=)."
            )
        self.batch_size //= 2
        console.warn(f"the device's memory is full; predicting {self.batch_size} images at a time")
        release_memory()
