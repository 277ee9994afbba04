"""Fast layers for the torch backend: the same functions and weights, fewer passes over memory.

Keras on torch copies every convolution's input to NCHW and back, and spells batch normalisation out
as five elementwise passes. Here the same layers call torch's own kernels on the channels-last view
they already hold. Only the bound `call` of each layer object changes: class, config, variables and
paths stay, so a saved model knows nothing of it and loads under any backend.

Must not import torch at module level (JAX and TensorFlow runs need not have it loaded), and must
not know any backbone: what can be swapped is decided layer by layer.
"""

from collections.abc import Callable
from typing import Any

import keras


def use_fused_layers(model: keras.Model) -> int:
    """Swap in the fast calls, in place, at any depth; the number of layers swapped.

    Outputs, gradients and moving statistics stay equal up to rounding. Layers whose settings have
    no fast call are left as they are. A call with another backend than torch changes nothing. A
    compiled training step need not be rebuilt. `use_stock_layers` undoes it.
    """
    if keras.backend.backend() != "torch":
        return 0
    swapped = 0
    for layer in model._flatten_layers():
        builder = _BUILDERS.get(type(layer))
        fast = builder(layer) if builder is not None and _is_plain(layer) else None
        if fast is not None:
            layer.__dict__["call"] = fast
            swapped += 1
    return swapped


def use_stock_layers(model: keras.Model) -> int:
    """Undo `use_fused_layers`; the number of layers given back to Keras."""
    swapped = [layer for layer in model._flatten_layers() if _is_fused(layer)]
    for layer in swapped:
        del layer.__dict__["call"]
    return len(swapped)


def _is_fused(layer: keras.layers.Layer) -> bool:
    return getattr(layer.__dict__.get("call"), "__module__", None) == __name__


def _is_plain(layer: keras.layers.Layer) -> bool:
    """Whether the layer computes in floating point with its own variables (no int8, no LoRA)."""
    return layer.quantization_mode is None and not getattr(layer, "lora_enabled", False)


def _batch_normalization(layer: keras.layers.BatchNormalization) -> Callable | None:
    """One fused normalisation; moving statistics by Keras' convention (biased variance)."""
    import torch
    from torch.nn.functional import batch_norm

    renorm = getattr(layer, "renorm", False)  # older Keras has none
    if renorm or layer.synchronized or layer.compute_dtype == "float64":
        return None
    stock = type(layer).call
    dtype = getattr(torch, layer.compute_dtype)

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        learns = bool(training and layer.trainable)
        last_axis = layer.axis in (-1, inputs.ndim - 1)
        # torch knows no masks and refuses to learn from one value a channel.
        unfit = learns and (mask is not None or inputs.numel() <= inputs.shape[-1])
        if unfit or not last_axis or inputs.dtype != dtype:
            return stock(layer, inputs, training=training, mask=mask)
        gamma = layer.gamma.value if layer.scale else None
        beta = layer.beta.value if layer.center else None
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        if learns:  # with momentum 1, torch leaves the batch's own statistics in these two
            mean, variance = torch.zeros_like(mean), torch.ones_like(variance)
        x = inputs.movedim(-1, 1) if inputs.ndim > 2 else inputs
        outputs = batch_norm(x, mean, variance, gamma, beta, learns, 1.0, layer.epsilon)
        if learns:
            count = x.numel() // x.shape[1]
            _update_moving_statistics(layer, mean, variance * ((count - 1) / count))
        return outputs.movedim(1, -1) if inputs.ndim > 2 else outputs

    return call


def _update_moving_statistics(layer: keras.layers.Layer, mean: Any, variance: Any) -> None:
    import torch

    share = 1.0 - layer.momentum
    layer.moving_mean.assign(torch.lerp(layer.moving_mean.value, mean, share))
    layer.moving_variance.assign(torch.lerp(layer.moving_variance.value, variance, share))


def _convolution(layer: keras.layers.Conv2D) -> Callable | None:
    if layer.data_format != "channels_last":
        return None

    def call(inputs: Any) -> Any:
        weight = keras.ops.convert_to_tensor(layer.kernel).permute(3, 2, 0, 1)
        return _convolve(layer, inputs, weight, groups=layer.groups)

    return call


def _depthwise_convolution(layer: keras.layers.DepthwiseConv2D) -> Callable | None:
    if layer.data_format != "channels_last":
        return None

    def call(inputs: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(layer.kernel)
        height, width, channels, multiplier = kernel.shape
        # Output channel c * multiplier + d reads input channel c, in Keras and in torch alike.
        weight = kernel.reshape(height, width, channels * multiplier, 1).permute(2, 3, 0, 1)
        return _convolve(layer, inputs, weight, groups=channels)

    return call


def _convolve(layer: keras.layers.Layer, inputs: Any, weight: Any, groups: int) -> Any:
    """torch's conv2d on (n, h, w, c) `inputs`, with TensorFlow's "same" padding."""
    import torch
    from torch.nn.functional import conv2d, pad

    x = inputs.permute(0, 3, 1, 2)  # (n, c, h, w), a channels-last view: no copy
    weight = weight.contiguous(memory_format=torch.channels_last)
    padding = (0, 0)
    if layer.padding == "same":
        top, bottom = _same_padding(layer, x.shape[2], 0)
        left, right = _same_padding(layer, x.shape[3], 1)
        if top == bottom and left == right:
            padding = (top, left)
        else:
            x = pad(x, (left, right, top, bottom))
    bias = layer.bias.value if layer.use_bias else None
    outputs = conv2d(x, weight, bias, layer.strides, padding, layer.dilation_rate, groups)
    outputs = outputs.permute(0, 2, 3, 1)
    return outputs if layer.activation is None else layer.activation(outputs)


def _same_padding(layer: keras.layers.Layer, length: int, axis: int) -> tuple[int, int]:
    """Zeros before and after one axis: the odd one goes last, as TensorFlow has it."""
    stride = layer.strides[axis]
    extent = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    total = max(0, (-(-length // stride) - 1) * stride + extent - length)
    return total // 2, total - total // 2


# Exact types: a subclass may mean something else by `call`.
_BUILDERS: dict[type, Callable] = {
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Conv2D: _convolution,
    keras.layers.DepthwiseConv2D: _depthwise_convolution,
}
