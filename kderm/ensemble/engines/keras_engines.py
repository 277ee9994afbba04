"""The members themselves, in Keras: the default engine, on any backend.

On torch the pixels stay on the device from the resample on, and all members see the same ones.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kderm.data.augment import plain_colours
from kderm.data.warp import Warp
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.engines.engine import Engine, Word, padded
from kderm.ensemble.engines.looks import Turn
from kderm.ensemble.engines.member_models import answering, as_list, load_members
from kderm.models.keras_file import rebuild
from kderm.models.native.swap import use_native_graph
from kderm.runtime import device_name, precision_policy


def keras_engine(
    bundle: Bundle,
    batch_size: int,
    precision: str = "float32",
    *,
    features: bool = False,
    images: int | None = None,
) -> Engine:
    """The members of a bundle in Keras.

    Args:
        bundle: the ensemble.
        batch_size: images a forward pass.
        precision: "float32" or "bfloat16", which the input scaling and the head have no part in.
        features: whether pooled features are wanted too.
        images: the most that a member is shown together, if that is known.

    Raises:
        UserError: a member that does not fit the bundle.
    """
    members = []
    for classifier in load_members(bundle):
        if precision != "float32":
            classifier = rebuild(classifier, precision_policy(precision))
        members.append(answering(classifier, features))
    # Accelerators round more coarsely and by the batch's shape, so one image alone is padded to the
    # shape that a folder has. On a CPU padding costs time and changes next to nothing.
    if images is not None and device_name().startswith("cpu"):
        batch_size = max(1, min(batch_size, images))
    on_torch = keras.backend.backend() == "torch"
    kind = TorchEngine if on_torch else HostEngine
    return kind(members, bundle.facts.image.size, batch_size)


class HostEngine(Engine):
    """Members under a backend that compiles: batches of one shape, so that it compiles once."""

    def __init__(self, models: Sequence[keras.Model], size: int, batch_size: int) -> None:
        """Args:
        models: as `answering` makes them.
        size: side of their input, pixels.
        batch_size: images a forward pass.
        """
        super().__init__(len(models), size, batch_size)
        self._models = models

    def ask(self, member: int, pixels: np.ndarray, metadata: np.ndarray | None) -> Word:
        """One model's answer to the padded batch."""
        given = [pixels] if metadata is None else [pixels, metadata]
        given = [padded(array, self.batch_size) for array in given]
        found = as_list(self._models[member].predict_on_batch(given))
        probabilities, *features = [np.asarray(rows)[: len(pixels)] for rows in found]
        return probabilities, features[0] if features else None


class TorchEngine(Engine):
    """Members on torch; pixels and answers stay on the device until a round is complete."""

    def __init__(self, models: Sequence[keras.Model], size: int, batch_size: int) -> None:
        """Args:
        models: as `answering` makes them.
        size: side of their input, pixels.
        batch_size: images a forward pass.
        """
        super().__init__(len(models), size, batch_size)
        for model in models:
            use_native_graph(model)
        self._models = models
        self._warp = Warp(size)
        self._pads = not device_name().startswith("cpu")

    def look(self, frames: np.ndarray, transform: np.ndarray) -> Any:
        """The pixels on the device."""
        import torch

        count = len(frames)
        with torch.no_grad():
            same = np.tile(transform, (count, 1, 1))
            return self._warp(*map(_on_device, (frames, same, plain_colours(count))))

    def turned(self, pixels: Any, rows: np.ndarray, turn: Turn) -> Any:
        """The rows, turned on the device."""
        chosen = pixels if len(rows) == len(pixels) else pixels[_on_device(rows)]
        chosen = chosen.flip(turn.axes) if turn.axes else chosen
        return (chosen.transpose(1, 2) if turn.transpose else chosen).contiguous()

    def stacked(self, views: Sequence[Any]) -> Any:
        """The views, on the device."""
        import torch

        return torch.cat(views)

    def ask(self, member: int, pixels: Any, metadata: np.ndarray | None) -> Any:
        """The model's answer, still on the device."""
        import torch

        count = len(pixels)
        given = [pixels] if metadata is None else [pixels, _on_device(metadata)]
        if self._pads and count < self.batch_size:
            rows = torch.arange(self.batch_size, device=pixels.device).clamp(max=count - 1)
            given = [array[rows] for array in given]
        with torch.no_grad():
            found = as_list(self._models[member](given, training=False))
        probabilities, *features = [rows[:count] for rows in found]
        return probabilities, features[0] if features else None

    def joined(self, words: Sequence[Any]) -> Word:
        """The answers of a round on the host; waits for the device."""
        import torch

        probabilities, features = zip(*words, strict=True)
        seen = None if features[0] is None else torch.cat(features).float().cpu().numpy()
        return torch.cat(probabilities).float().cpu().numpy(), seen


def _on_device(array: np.ndarray) -> Any:
    import torch
    from keras.src.backend.torch.core import get_device

    # `require`: frames may be a read-only map of a file, which torch does not take.
    return torch.from_numpy(np.require(array, requirements="CW")).to(get_device())
