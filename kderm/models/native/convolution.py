"""Convolutions on channels-last tensors, plain and depthwise, with Keras' kernels and padding."""

from collections.abc import Sequence
from typing import Any

import keras
import torch
from torch.nn import functional

from kderm.models.native import kernels
from kderm.models.native.operations import (
    Pass,
    UnknownSetting,
    activation_of,
    compute_dtype,
    raw,
    same_padding,
)

Edges = tuple[tuple[int, int], tuple[int, int]]  # zeros (top, bottom), (left, right)


class Convolution:
    """Conv2D or DepthwiseConv2D, with the zero padding that may stand before it."""

    def __init__(self, layer: keras.layers.Layer, before: keras.layers.ZeroPadding2D | None = None):
        if layer.data_format != "channels_last":
            raise UnknownSetting
        if before is not None and layer.padding != "valid":
            raise ValueError("Only a convolution without padding takes that of the layer before.")
        self.layer = layer
        self.activation = activation_of(layer.activation)
        self.edges: Edges | None = before.padding if before is not None else None
        self.is_mirrored = False
        self.is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        # oneDNN's gradient by a kernel wider than three is five times as slow as it could be.
        self.has_slow_gradient = (
            self.is_depthwise
            and tuple(layer.kernel_size) == (5, 5)
            and tuple(layer.dilation_rate) == (1, 1)
            and layer.depth_multiplier == 1
            and layer.strides[0] == layer.strides[1]
        )

    @property
    def groups(self) -> int:
        """Groups of channels that do not meet."""
        return raw(self.layer.kernel).shape[2] if self.is_depthwise else self.layer.groups

    def lay_out(self) -> None:
        """Put the kernel into memory as torch's convolution reads it; shape and values stay.

        Else each step copies every kernel, and its gradient back.
        """
        kernel = raw(self.layer.kernel)
        if not self.is_depthwise:
            kernel.data = kernel.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)

    def mirror(self) -> None:
        """Work on feature maps turned by half a circle; see `kderm.models.native.plan`."""
        self.is_mirrored = True

    def copies(self, height: int, width: int, *, turned: bool) -> bool:
        """Whether a map of that size has to be copied before torch's convolution takes it."""
        return not self._is_even((height, width), self._edges((height, width), turned))

    def weight(self) -> torch.Tensor:
        """The kernel as torch has it, (out, in / groups, h, w): a view of Keras' variable."""
        weight = self._unturned_weight()
        pointwise = max(weight.shape[2:]) == 1
        return weight.flip(2, 3) if self.is_mirrored and not pointwise else weight

    def _unturned_weight(self) -> torch.Tensor:
        kernel = raw(self.layer.kernel)
        if not self.is_depthwise:
            return kernel.permute(3, 2, 0, 1)
        height, width, channels, multiplier = kernel.shape
        # Output channel c * multiplier + d reads input channel c, in Keras and in torch alike.
        return kernel.reshape(height, width, channels * multiplier, 1).permute(2, 3, 0, 1)

    def bias(self) -> torch.Tensor | None:
        """The bias, or None."""
        return raw(self.layer.bias) if self.layer.use_bias else None

    def padding(self, height: int, width: int) -> Edges:
        """Zeros around a feature map of that size."""
        if self.edges is not None:
            return self.edges
        if self.layer.padding == "valid":
            return (0, 0), (0, 0)
        kernel, strides, dilation = (
            self.layer.kernel_size,
            self.layer.strides,
            self.layer.dilation_rate,
        )
        return (
            same_padding(height, kernel[0], strides[0], dilation[0]),
            same_padding(width, kernel[1], strides[1], dilation[1]),
        )

    def padded(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """`x`, with zeros around it where they are uneven, and the even ones left to do."""
        edges = self._edges(x.shape[2:], self.is_mirrored)
        if self._is_even(x.shape[2:], edges):
            return x, (edges[0][0], edges[1][0])
        (top, bottom), (left, right) = edges
        return functional.pad(x, (left, right, top, bottom)), (0, 0)

    def _edges(self, sides: Sequence[int], turned: bool) -> Edges:
        edges = self.padding(*sides)
        if not turned:
            return edges
        # What is left over behind the last output comes before the first one then.
        steps = zip(sides, edges, self.reach, self.layer.strides, strict=True)
        rows, columns = (
            ((length + sum(edge) - reach) // stride * stride + reach - length - edge[0], edge[0])
            for length, edge, reach, stride in steps
        )
        return rows, columns

    def _is_even(self, sides: Sequence[int], edges: Edges) -> bool:
        """Whether as many zeros behind as before give the same outputs, and no more.

        Behind a stride the last zeros are often read by nobody.
        """
        return all(
            edge[0] >= 0
            and (length + sum(edge) - reach) // stride == (length + 2 * edge[0] - reach) // stride
            for length, edge, reach, stride in zip(
                sides, edges, self.reach, self.layer.strides, strict=True
            )
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the input that one output sees."""
        sizes = zip(self.layer.kernel_size, self.layer.dilation_rate, strict=True)
        height, width = ((size - 1) * dilation + 1 for size, dilation in sizes)
        return height, width

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, out, h', w')."""
        layer, dtype = self.layer, compute_dtype(self.layer)
        weight = self.weight().to(dtype).contiguous(memory_format=torch.channels_last)
        bias = self.bias()
        x, padding = self.padded(x.to(dtype))
        bias = None if bias is None else bias.to(dtype)
        if self.has_slow_gradient and torch.is_grad_enabled() and kernels.fits(x):
            outputs = DepthwiseConvolution.apply(
                kernels.as_rows(x), weight, bias, layer.strides[0], padding
            )
        else:
            outputs = functional.conv2d(
                x, weight, bias, layer.strides, padding, layer.dilation_rate, self.groups
            )
        return outputs if self.activation is None else self.activation(outputs)


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution of 5 x 5 whose gradient by the kernel is our own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: int,
        padding: tuple[int, int],
    ) -> torch.Tensor:
        """Args: x as `kernels.as_rows` gives it; weight (c, 1, 5, 5)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> tuple:
        """Gradients by x, weight and bias."""
        (x, weight), stride, padding = ctx.saved_tensors, ctx.stride, ctx.padding
        g = kernels.as_rows(g)
        asked = [ctx.needs_input_grad[0], False, ctx.needs_input_grad[2]]
        by_x, _, by_bias = torch.ops.aten.convolution_backward(
            *(g, x, weight, [x.shape[1]], [stride, stride], padding, [1, 1], False, [0, 0]),
            *(x.shape[1], asked),
        )
        by_weight = None
        if ctx.needs_input_grad[1]:
            by_weight = kernels.depthwise_kernel_gradient(g, x, stride, padding)
        return by_x, by_weight, by_bias, None, None
