"""The warp layer: cuts the network's input out of stored frames, on the device.

Applies what `kderm.data.augment` drew or `kderm.data.views` enumerated: any number of flips,
rotations, zooms and shifts in one bilinear resample, and all colour changes in one matrix. It
stands before the classifier in training and in prediction, and is no part of a saved member. The
only module of the data room that imports Keras.
"""

import contextlib
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kderm")
class Warp(keras.layers.Layer):
    """Resample frames to `size` x `size` and change their colours.

    `call(images, transforms, colours)`:
        images: (n, H, W, 3), uint8 or float, range 0..255.
        transforms: float (n, 2, 3), normalised output coordinates to normalised input coordinates;
            [-1, 1] over the outer edges of the picture, x right and y down (the convention of
            torch's `affine_grid` and `grid_sample` with `align_corners=False`).
        colours: float (n, 3, 4); rgb becomes M·rgb + b, then is clipped.

    Returns float32 (n, size, size, 3), range 0..255. Outside of the frame its picture is reflected
    about its edges. Computed in float32 under any precision policy, without gradients.

    Args:
        size: side of the output, pixels.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"  # float16 has no room for the coordinates of a large frame
        super().__init__(autocast=False, **kwargs)
        self.size = int(size)

    def call(self, images: Any, transforms: Any, colours: Any) -> Any:
        """The warped images; shapes in the class docstring."""
        transforms = ops.cast(transforms, "float32")
        colours = ops.cast(colours, "float32")
        with _without_gradient():
            x, y = _sampling_points(transforms, self.size)
            sample = _sample_torch if keras.backend.backend() == "torch" else _sample_ops
            warped = _recolour(sample(images, x, y), colours)
        return ops.stop_gradient(warped)

    def compute_output_shape(
        self, images_shape: tuple, transforms_shape: tuple = (), colours_shape: tuple = ()
    ) -> tuple:
        """(n, size, size, 3)."""
        return (images_shape[0], self.size, self.size, 3)

    def compute_output_spec(self, images: Any, transforms: Any, colours: Any) -> keras.KerasTensor:
        """float32 (n, size, size, 3)."""
        return keras.KerasTensor(self.compute_output_shape(images.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "size": self.size}


def _sampling_points(transforms: Any, size: int) -> tuple[Any, Any]:
    """Normalised input x and y of every output pixel, float32 (n, size, size) each.

    As sums of products: a matrix product would be rounded to ten bits where TensorFloat-32 is on.
    """
    centres = (2.0 * ops.arange(size, dtype="float32") + 1.0) / size - 1.0
    x, y = ops.reshape(centres, (1, 1, size)), ops.reshape(centres, (1, size, 1))
    entry = transforms[:, :, :, None, None]
    return (
        entry[:, 0, 0] * x + entry[:, 0, 1] * y + entry[:, 0, 2],
        entry[:, 1, 0] * x + entry[:, 1, 1] * y + entry[:, 1, 2],
    )


def _sample_torch(images: Any, x: Any, y: Any) -> Any:
    """Bilinear samples with reflection by torch's own kernel: three channels (n, s, s)."""
    import torch

    # Contiguous planes: on a CPU the conversion is three times and the kernel 1.2 times as fast.
    planes = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    warped = torch.nn.functional.grid_sample(
        planes,
        torch.stack([x, y], dim=-1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return warped.unbind(dim=1)


def _sample_ops(images: Any, x: Any, y: Any) -> Any:
    """The same numbers as `_sample_torch` on any backend, from four gathers."""
    n, height, width = (ops.shape(images)[axis] for axis in range(3))
    left, right, x_share = _neighbours(x, width)
    top, bottom, y_share = _neighbours(y, height)
    pixels = ops.reshape(images, (-1, 3))
    first_pixel = ops.reshape(ops.arange(n, dtype="int32") * (height * width), (-1, 1, 1))

    def at(row: Any, column: Any) -> Any:
        taken = ops.take(pixels, first_pixel + row * width + column, axis=0)
        return ops.cast(taken, "float32")

    x_share, y_share = x_share[..., None], y_share[..., None]
    upper = at(top, left) * (1.0 - x_share) + at(top, right) * x_share
    lower = at(bottom, left) * (1.0 - x_share) + at(bottom, right) * x_share
    warped = upper * (1.0 - y_share) + lower * y_share
    return [warped[..., channel] for channel in range(3)]


def _neighbours(normalised: Any, length: Any) -> tuple[Any, Any, Any]:
    """The two pixels around each coordinate (int32), and the share of the second."""
    extent = ops.cast(length, "float32")
    from_edge = (normalised + 1.0) * (extent / 2.0)
    # A triangle wave with its corners on the picture's edges.
    folded = ops.mod(ops.abs(from_edge), 2.0 * extent)
    reflected = extent - ops.abs(folded - extent)
    position = ops.clip(reflected - 0.5, 0.0, extent - 1.0)
    below = ops.floor(position)
    first = ops.cast(below, "int32")
    return first, ops.minimum(first + 1, length - 1), position - below


def _recolour(channels: Any, colours: Any) -> Any:
    """M·rgb + b of three channels (n, s, s), clipped: (n, s, s, 3). Sums, for TensorFloat-32."""
    entry = colours[:, :, :, None, None]
    mixed = [
        entry[:, i, 0] * channels[0]
        + entry[:, i, 1] * channels[1]
        + entry[:, i, 2] * channels[2]
        + entry[:, i, 3]
        for i in range(3)
    ]
    return ops.clip(ops.stack(mixed, axis=-1), 0.0, 255.0)


def _without_gradient() -> contextlib.AbstractContextManager:
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
