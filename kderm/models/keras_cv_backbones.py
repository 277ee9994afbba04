"""keras-cv backbones, built by their explicit constructors, which need no network."""

from pathlib import Path

import keras

from kderm.models.keras_file import import_keras_cv
from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file


def build(preset: Preset, size: int, weights: Path | None) -> keras.Model:
    """The backbone (n, size, size, 3) -> (n, h, w, c), without input scaling.

    Args:
        preset: row of provider keras_cv.
        size: side in pixels; the padding of V1 and Lite depends on its parity.
        weights: weights file, or a preset folder that holds one; None: random.
    """
    keras_cv = import_keras_cv()
    backbone = getattr(keras_cv.models, preset.builder)(
        include_rescaling=False, input_shape=(size, size, 3), **preset.arguments
    )
    if preset.family == "efficientnet_v1":
        _linear_projections(backbone)
    if weights is not None:
        load_weights_file(backbone, weights, preset)
    return backbone


def _linear_projections(backbone: keras.Model) -> None:
    """Undo keras-cv's activation after each projection.

    The paper, keras.applications and timm end a block in a linear bottleneck. keras-cv 0.9 does
    not, so reference weights would fit its shapes and silently give garbage.
    """
    for layer in backbone.layers:
        if layer.name.endswith("project_activation"):
            layer.activation = keras.activations.linear
