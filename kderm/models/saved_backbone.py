"""A saved Keras feature extractor as the backbone, at a new input size (provider `file`)."""

from pathlib import Path
from typing import Any

import keras

from kderm.errors import UserError, reason_of
from kderm.models.keras_file import load_keras_file, rebuild, unroll
from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file, resolve_weights

_GLOBAL_POOLING = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)


def build(preset: Preset, size: int, weights: str) -> keras.Model:
    """The feature extractor in the preset's file, (n, size, size, 3) in 0..255 -> (n, h, w, c).

    The file's own input scaling stays in place. What follows its last feature map (global pooling,
    a head) is left out.

    Args:
        preset: row of provider file.
        size: new side in pixels.
        weights: "preset" (those in the file), "none" (drawn anew), or a weights file.
    """
    path = Path(preset.builder).expanduser()
    model = load_keras_file(path)
    features = keras.Model(_image_input(model, path), last_feature_map(model, path))
    try:
        resized = unroll(features, keras.Input((size, size, 3), name="image"))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"The model in {path} cannot be rebuilt for {size} x {size} pixels "
            f"({reason_of(error)}). Expected a fully convolutional feature extractor."
        ) from None
    if weights not in ("preset", "none"):
        load_weights_file(resized, resolve_weights(preset, weights), preset)
    policy = keras.config.dtype_policy().name
    return rebuild(resized, policy, redraw=weights == "none")


def last_feature_map(model: keras.Model, path: str | Path = "the model") -> Any:
    """The last tensor (n, h, w, c) of `model` before global pooling and any head.

    Raises:
        UserError: there is none on a single path back from the output.
    """
    tensor = model.outputs[0]
    while True:
        operation = tensor._keras_history.operation
        if len(tensor.shape) == 4 and not isinstance(operation, _GLOBAL_POOLING):
            return tensor
        node = operation._inbound_nodes[tensor._keras_history.node_index]
        if node.is_input or len(node.input_tensors) != 1:
            raise UserError(
                f"Expected a feature extractor whose output is a feature map (n, h, w, c), or "
                f"comes from one through pooling and a head. Received: {path} with an output of "
                f"shape {tuple(model.outputs[0].shape)}."
            )
        tensor = node.input_tensors[0]


def _image_input(model: keras.Model, path: Path) -> Any:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"Expected a model with one input and one output. Received: {path} with "
            f"{len(model.inputs)} and {len(model.outputs)}."
        )
    image = model.inputs[0]
    if len(image.shape) != 4 or image.shape[-1] != 3:
        raise UserError(
            f"Expected a model of RGB images (n, h, w, 3). Received: {path} with an input of "
            f"shape {tuple(image.shape)}."
        )
    return image
