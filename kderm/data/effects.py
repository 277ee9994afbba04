"""The effects layer: what a resample and a colour matrix cannot do to training images.

Applies on the device what `kderm.data.augment.draw_effects` drew, one row an image: sharpness,
autocontrast, posterize, solarize, blur, noise, cutout, then MixUp or CutMix with another image of
the batch. It stands between `Warp` and the classifier, in training alone, and is no part of a saved
member.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kderm.data.augment import EFFECTS, identity_effects

# The columns of some images' rows by name, float (n, 1, 1, 1) each.
Row = dict[str, Any]


@keras.saving.register_keras_serializable(package="kderm")
class Effects(keras.layers.Layer):
    """Change each image by its row of effects.

    `call(images, effects)`:
        images: float (n, s, s, 3), range 0..255.
        effects: float (n, e), columns `kderm.data.augment.EFFECTS`.

    Returns float32 (n, s, s, 3), range 0..255; an image whose row changes nothing comes back bit
    for bit. Computed in float32 under any precision policy, without gradients. On torch only the
    images pay that an effect changes; on compiled backends all do if it changes any.

    The noise comes from a seed generator of the layer, one of its non-trainable variables.

    Args:
        seed: of the noise; by default a random one.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, effects: Any) -> Any:
        """The changed images; shapes in the class docstring."""
        images = ops.stop_gradient(ops.cast(images, "float32"))
        rows = _Rows(ops.cast(effects, "float32"))
        images = rows.change(images, _sharpen, "sharpness")
        images = rows.change(images, _stretch, "autocontrast")
        images = rows.change(images, _posterize, "posterize")
        images = rows.change(images, _solarize, "solarize")
        images = rows.change(images, _blur, "blur")
        images = rows.change(images, _noise_from(self.seed_generator.next()), "noise")
        images = rows.change(images, _cut_out, "cutout_side")
        mixed = rows.change(images, _mixer(images), "mixup", "box_right")
        return ops.stop_gradient(mixed)

    def compute_output_spec(self, images: Any, effects: Any) -> keras.KerasTensor:
        """float32, the images' shape."""
        return keras.KerasTensor(images.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "seed": self.seed}


class _OneSeed(keras.random.SeedGenerator):
    """A seed taken from a generator before: a compiled branch must not change a variable."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def next(self, ordered: bool = True) -> Any:
        """The seed."""
        return self.value


class _Rows:
    """The effects of a batch, and which images each of them changes."""

    def __init__(self, effects: Any) -> None:
        """Args:
        effects: float32 (n, e).
        """
        self.row = {name: effects[:, i, None, None, None] for i, name in enumerate(EFFECTS)}
        # Fetched once a batch: asking for each effect would make the device wait eight times.
        self.on_host = ops.convert_to_numpy(effects) if _on_torch() else None

    def change(self, images: Any, apply: Callable[[Any, Row], Any], *switches: str) -> Any:
        """`images` with `apply` done to those in which a switch is not at its identity.

        Args:
            images: float32 (n, s, s, 3).
            apply: takes some images and their rows, gives the changed images, clipped here.
            switches: columns that decide.
        """
        columns = [EFFECTS.index(name) for name in switches]
        identity = identity_effects(1)[0, columns]
        if self.on_host is not None:
            chosen = np.flatnonzero((self.on_host[:, columns] != identity).any(axis=1))
            return self._change_chosen(images, apply, chosen)
        active = [self.row[name] != float(at) for name, at in zip(switches, identity, strict=True)]
        active = ops.any(ops.stack(active), axis=0)
        return ops.cond(
            ops.any(active),
            lambda: ops.where(active, _clipped(apply(images, self.row)), images),
            lambda: images,
        )

    def _change_chosen(self, images: Any, apply: Callable, chosen: np.ndarray) -> Any:
        """The same on torch, where a batch may have any shape."""
        if len(chosen) == 0:
            return images
        if len(chosen) == len(images):
            return _clipped(apply(images, self.row))
        index = ops.convert_to_tensor(chosen)
        row = {name: column[index] for name, column in self.row.items()}
        return images.index_copy(0, index, _clipped(apply(images[index], row)))


def _on_torch() -> bool:
    return keras.backend.backend() == "torch"


def _clipped(images: Any) -> Any:
    return ops.clip(images, 0.0, 255.0)


def _sharpen(images: Any, row: Row) -> Any:
    """Scale what a 3 x 3 smoothing takes away; the border has no neighbours and stays.

    The smoothing is that of Pillow's ImageEnhance.Sharpness: neighbours 1, the pixel itself 5, of
    13 in all.
    """
    centre = images[:, 1:-1, 1:-1]
    across = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = across[:, :-2] + across[:, 1:-1] + across[:, 2:]
    detail = centre - (around + 4.0 * centre) / 13.0
    detail = ops.pad(detail, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return images + (row["sharpness"] - 1.0) * detail


def _stretch(images: Any, row: Row) -> Any:
    """Go towards the picture in which each channel fills 0..255; a flat channel stays."""
    low = ops.min(images, axis=(1, 2), keepdims=True)
    extent = ops.max(images, axis=(1, 2), keepdims=True) - low
    flat = extent <= 0.0
    stretched = (images - low) * (255.0 / ops.where(flat, 1.0, extent))
    share = ops.where(flat, 0.0, row["autocontrast"])
    return (1.0 - share) * images + share * stretched


def _posterize(images: Any, row: Row) -> Any:
    """Round down to multiples; powers of two, so that the division is exact."""
    step = ops.maximum(row["posterize"], 1.0)
    return ops.floor(images / step) * step


def _solarize(images: Any, row: Row) -> Any:
    return ops.where(images >= row["solarize"], 255.0 - images, images)


def _blur(images: Any, row: Row) -> Any:
    """Gaussian blur, any sigma an image, as one matrix product along each side.

    At the border the weights inside of the picture are scaled to a sum of 1.
    """
    n, side = ops.shape(images)[0], images.shape[1]
    position = ops.arange(side, dtype="float32")
    distance = (position[:, None] - position)[None] / ops.maximum(row["blur"][:, 0], 1e-3)
    weights = ops.exp(-0.5 * distance * distance)
    weights = weights / ops.sum(weights, axis=2, keepdims=True)
    for _ in range(2):  # along the rows, then, turned, along the columns, which turns it back
        summed = ops.matmul(weights, ops.reshape(images, (n, side, side * 3)))
        images = ops.transpose(ops.reshape(summed, (n, side, side, 3)), (0, 2, 1, 3))
    return images


def _noise_from(seed: Any) -> Callable[[Any, Row], Any]:
    """Add normal noise, drawn from a state of a seed generator."""

    def add(images: Any, row: Row) -> Any:
        noise = keras.random.normal(ops.shape(images), dtype="float32", seed=_OneSeed(seed))
        return images + 255.0 * row["noise"] * noise

    return add


def _cut_out(images: Any, row: Row) -> Any:
    """Give a square the image's mean colour."""
    half = row["cutout_side"] / 2.0
    x, y, side = row["cutout_x"], row["cutout_y"], images.shape[1]
    covered = _covered(x - half, y - half, x + half, y + half, side)
    mean = ops.mean(images, axis=(1, 2), keepdims=True)
    return (1.0 - covered) * images + covered * mean


def _mixer(batch: Any) -> Callable[[Any, Row], Any]:
    """MixUp and CutMix for some images of `batch`, with partners from all of it."""

    def mix(images: Any, row: Row) -> Any:
        partner = ops.cast(row["partner"][:, 0, 0, 0], "int32")
        edges = (row[f"box_{edge}"] for edge in ("left", "top", "right", "bottom"))
        share = ops.maximum(row["mixup"], _covered(*edges, images.shape[1]))
        return (1.0 - share) * images + share * ops.take(batch, partner, axis=0)

    return mix


def _covered(left: Any, top: Any, right: Any, bottom: Any, side: int) -> Any:
    """The share of each pixel that lies in a box, (n, side, side, 1); edges as shares of the side.

    Pixels on the edge are covered in part, so that the sum is the box's area for any size of image.
    """
    start = ops.arange(side, dtype="float32")

    def along(low: Any, high: Any, pixels: Any) -> Any:
        end = ops.minimum(high * side, pixels + 1.0)
        return ops.clip(end - ops.maximum(low * side, pixels), 0.0, 1.0)

    x = along(left, right, ops.reshape(start, (1, 1, side, 1)))
    y = along(top, bottom, ops.reshape(start, (1, side, 1, 1)))
    return x * y
