"""For the export: Keras layers that torch writes down as one operator each.

Keras on torch spells a batch normalisation out as arithmetic, and calculates paddings from shapes
on the fly; an engine folds neither. Here both are single calls on the same weights. Only the bound
`call` of each layer object changes, of a model that is exported and thrown away.
"""

from collections.abc import Callable
from typing import Any

import keras


def use_plain_layers(model: keras.Model) -> None:
    """Exchange the calls of convolutions and batch normalisations, at any depth; not for training.

    Outputs stay equal up to rounding. Layers of other kinds or settings stay as they are.
    """
    for layer in model._flatten_layers():
        builder = _BUILDERS.get(type(layer))  # exact: a subclass may mean something else
        if (
            builder is not None
            and getattr(layer, "data_format", "channels_last") != "channels_first"
        ):
            layer.__dict__["call"] = builder(layer)


def _batch_normalization(layer: keras.layers.BatchNormalization) -> Callable:
    from torch.nn.functional import batch_norm

    usual = layer.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if layer.axis not in (-1, inputs.ndim - 1):
            return usual(inputs, training=False, mask=mask)
        weights = (
            layer.moving_mean.value,
            layer.moving_variance.value,
            layer.gamma.value if layer.scale else None,
            layer.beta.value if layer.center else None,
        )
        x = inputs.movedim(-1, 1) if inputs.ndim > 2 else inputs
        outputs = batch_norm(x, *weights, training=False, eps=layer.epsilon)
        return outputs.movedim(1, -1) if inputs.ndim > 2 else outputs

    return call


def _convolution(layer: keras.layers.Conv2D) -> Callable:
    return lambda inputs: _convolve(layer, inputs, layer.kernel.value.permute(3, 2, 0, 1))


def _depthwise_convolution(layer: keras.layers.DepthwiseConv2D) -> Callable:
    def call(inputs: Any) -> Any:
        kernel = layer.kernel.value
        height, width, channels, multiplier = kernel.shape
        # Output channel c * multiplier + d reads input channel c, in Keras and in torch alike.
        weight = kernel.reshape(height, width, channels * multiplier, 1).permute(2, 3, 0, 1)
        return _convolve(layer, inputs, weight, groups=channels)

    return call


def _convolve(layer: Any, inputs: Any, weight: Any, groups: int | None = None) -> Any:
    """torch's conv2d on (n, h, w, c) `inputs`, with TensorFlow's "same" padding."""
    from torch.nn.functional import conv2d, pad

    x = inputs.permute(0, 3, 1, 2)
    if layer.padding == "same":
        sides = [_same_padding(layer, x.shape[axis + 2], axis) for axis in (1, 0)]
        if any(map(any, sides)):
            x = pad(x, [zeros for side in sides for zeros in side])
    bias = layer.bias.value if layer.use_bias else None
    groups = layer.groups if groups is None else groups
    outputs = conv2d(x, weight, bias, layer.strides, 0, layer.dilation_rate, groups)
    outputs = outputs.permute(0, 2, 3, 1)
    return outputs if layer.activation is None else layer.activation(outputs)


def _same_padding(layer: Any, length: int, axis: int) -> tuple[int, int]:
    """Zeros before and after one axis: the odd one goes last, as TensorFlow has it."""
    stride = layer.strides[axis]
    extent = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    total = max(0, (-(-length // stride) - 1) * stride + extent - length)
    return total // 2, total - total // 2


_BUILDERS: dict[type, Callable] = {
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _depthwise_convolution,
}
