"""Keras layers as torch operations on (n, c, h, w) tensors in channels-last memory.

One class a kind of layer, made from the layer, called with a `Pass` and tensors. Weights are read
from the layer's variables at each call, so assigning, freezing and saving work as in Keras. A layer
that has no class here, or settings that its class does not know, runs as `KerasCall`. Which nodes
become one operation is decided in `kderm.models.native.plan`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import torch
from torch.nn import functional

from kderm.models.native.graph import Node
from kderm.models.native.masks import Masks


@dataclass
class Pass:
    """One run through a graph.

    Attributes:
        training: as in Keras' calls.
        moved: (layer, mean, biased variance) of each batch normalisation that learnt.
    """

    training: bool
    moved: list[tuple[Any, torch.Tensor, torch.Tensor]] = field(default_factory=list)


Operation = Callable[..., Any]  # (run, *tensors) -> tensor, or a tuple for several outputs
Activation = Callable[[torch.Tensor], torch.Tensor]


def raw(variable: keras.Variable | None) -> torch.Tensor | None:
    """The parameter behind a variable, whatever the autocast scope."""
    return None if variable is None else variable._value


def to_keras(x: torch.Tensor) -> torch.Tensor:
    """A feature map as Keras has it, (n, h, w, c); other ranks as they are."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def from_keras(x: torch.Tensor) -> torch.Tensor:
    """The opposite of `to_keras`, in channels-last memory."""
    if x.ndim != 4:
        return x
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def compute_dtype(layer: keras.layers.Layer) -> torch.dtype:
    """What a layer computes in."""
    return getattr(torch, layer.compute_dtype)


# Keras' function -> torch's; None: the identity.
ACTIVATIONS: dict[Any, Activation | None] = {
    keras.activations.linear: None,
    keras.activations.relu: functional.relu,
    keras.activations.relu6: functional.relu6,
    keras.activations.silu: functional.silu,
    keras.activations.sigmoid: torch.sigmoid,
    keras.activations.hard_silu: functional.hardswish,
    keras.activations.tanh: torch.tanh,
}


# Names of those that the kernels know.
NAMES: dict[Activation | None, str | None] = {
    None: None,
    functional.silu: "silu",
    functional.relu: "relu",
    functional.relu6: "relu6",
}


class UnknownSetting(Exception):
    """A layer whose class is known, with settings that are not."""


def activation_of(function: Any) -> Activation | None:
    """torch's function for one of Keras'; None for the identity."""
    if function is None:
        return None
    try:
        return ACTIVATIONS[function]
    except (KeyError, TypeError):
        raise UnknownSetting from None


class KerasCall:
    """The layer itself, called as Keras would; for everything without an operation of its own."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def __call__(self, run: Pass, *tensors: torch.Tensor) -> Any:
        node = self.node
        seen = {
            id(symbol): to_keras(tensor)
            for symbol, tensor in zip(node.tensors, tensors, strict=True)
        }
        args, kwargs = node.arguments.fill_in(seen)
        if getattr(node.operation, "_call_has_training_arg", False):
            kwargs["training"] = run.training
        outputs = keras.tree.flatten(node.operation(*args, **kwargs))
        values = tuple(from_keras(output) for output in outputs)
        return values if len(node.outputs) > 1 else values[0]


class Rescaling:
    """x · scale + offset, in the layer's dtype."""

    def __init__(self, layer: keras.layers.Rescaling) -> None:
        self.layer = layer
        self.made: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        dtype = compute_dtype(self.layer)
        key = dtype, x.device, x.ndim
        if key not in self.made:  # a copy to a GPU would wait for all that is under way there
            self.made[key] = self._factors(*key)
        scale, offset = self.made[key]
        return torch.addcmul(offset, x.to(dtype), scale)

    def _factors(
        self, dtype: torch.dtype, device: torch.device, rank: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        like = {"dtype": dtype, "device": device}
        both = torch.as_tensor(self.layer.scale, **like), torch.as_tensor(self.layer.offset, **like)
        scale, offset = (one.reshape(-1, 1, 1) if one.ndim and rank == 4 else one for one in both)
        return scale, offset


class Apply:
    """An activation on its own; None: the identity."""

    def __init__(self, layer: keras.layers.Layer, function: Activation | None) -> None:
        self.layer, self.function = layer, function

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        x = x.to(compute_dtype(self.layer))
        return x if self.function is None else self.function(x)


class Sum:
    """The layer Add: a + b (+ ...)."""

    def __init__(self, layer: keras.layers.Add) -> None:
        self.layer = layer

    def __call__(self, run: Pass, *tensors: torch.Tensor) -> torch.Tensor:
        dtype = compute_dtype(self.layer)
        total = tensors[0].to(dtype)
        for tensor in tensors[1:]:
            total = total + tensor.to(dtype)
        return total


class Product:
    """The layer Multiply: a · b, also of a feature map by a gate (n, c, 1, 1)."""

    def __init__(self, layer: keras.layers.Multiply) -> None:
        self.layer = layer

    def __call__(self, run: Pass, *tensors: torch.Tensor) -> torch.Tensor:
        dtype = compute_dtype(self.layer)
        total = tensors[0].to(dtype)
        for tensor in tensors[1:]:
            total = total * tensor.to(dtype)
        return total


class Dropout:
    """Dropout with the masks that Keras' layer would draw, from the same generator."""

    def __init__(self, layer: keras.layers.Dropout) -> None:
        self.layer, self.masks = layer, Masks(layer)

    @property
    def draws_by_place(self) -> bool:
        """Whether the places of a feature map are dropped by themselves."""
        shape = self.layer.noise_shape
        return shape is None or len(shape) != 4 or tuple(shape[1:3]) != (1, 1)

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        x = x.to(compute_dtype(layer))
        if not run.training or not layer.rate:
            return x
        shape = layer.noise_shape
        if shape is None or x.ndim != 4:
            seed = layer.seed_generator
            dropped = keras.random.dropout(to_keras(x), layer.rate, shape, seed=seed)
            return from_keras(dropped)
        # The factors of the whole, drawn on the small shape: Keras would spread them first.
        seen = to_keras(x).shape
        shape = [own if own is not None else seen[axis] for axis, own in enumerate(shape)]
        return x * self.masks.factors(shape, x).permute(0, 3, 1, 2)


class GlobalAverage:
    """The mean over places, (n, c, h, w) -> (n, c), or (n, c, 1, 1) with keepdims."""

    def __init__(self, layer: keras.layers.GlobalAveragePooling2D) -> None:
        if layer.data_format != "channels_last":
            raise UnknownSetting
        self.layer = layer

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        return x.to(compute_dtype(self.layer)).mean((2, 3), keepdim=self.layer.keepdims)


class AsMap:
    """Reshape of (n, c) to (n, c, 1, 1)."""

    def __init__(self, layer: keras.layers.Reshape) -> None:
        shape = tuple(layer.target_shape)
        if len(shape) != 3 or shape[:2] != (1, 1):
            raise UnknownSetting
        self.layer = layer

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :, None, None].to(compute_dtype(self.layer))


class MaxPooling:
    """Maximum pooling with TensorFlow's "same" padding, or without."""

    def __init__(self, layer: keras.layers.MaxPooling2D) -> None:
        if layer.data_format != "channels_last":
            raise UnknownSetting
        self.layer = layer

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        x = x.to(compute_dtype(layer))
        if layer.padding == "valid":
            return functional.max_pool2d(x, layer.pool_size, layer.strides)
        edges = [
            same_padding(x.shape[2 + axis], layer.pool_size[axis], layer.strides[axis], 1)
            for axis in (0, 1)
        ]
        (top, bottom), (left, right) = edges
        if any(map(any, edges)):
            x = functional.pad(x, (left, right, top, bottom), value=float("-inf"))
        return functional.max_pool2d(x, layer.pool_size, layer.strides)


class ZeroPadding:
    """Zeros around a feature map."""

    def __init__(self, layer: keras.layers.ZeroPadding2D) -> None:
        if layer.data_format != "channels_last":
            raise UnknownSetting
        self.layer, self.edges = layer, layer.padding

    def mirror(self) -> None:
        """Work on feature maps turned by half a circle."""
        self.edges = tuple((after, before) for before, after in self.layer.padding)

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        (top, bottom), (left, right) = self.edges
        return functional.pad(x.to(compute_dtype(self.layer)), (left, right, top, bottom))


class Linear:
    """The layer Dense on (n, c)."""

    def __init__(self, layer: keras.layers.Dense) -> None:
        self.layer, self.activation = layer, activation_of(layer.activation)

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        dtype = compute_dtype(self.layer)
        kernel, bias = raw(self.layer.kernel).to(dtype), raw(self.layer.bias)
        if bias is None:
            outputs = x.to(dtype) @ kernel
        else:
            outputs = functional.linear(x.to(dtype), kernel.t(), bias.to(dtype))
        return outputs if self.activation is None else self.activation(outputs)


def same_padding(length: int, extent: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after one axis: the odd one goes last, as TensorFlow has it."""
    reach = (extent - 1) * dilation + 1
    total = max(0, (-(-length // stride) - 1) * stride + reach - length)
    return total // 2, total - total // 2
