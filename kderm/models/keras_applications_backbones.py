"""keras.applications backbones, without their own preprocessing and without their download."""

from pathlib import Path

import keras

from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file


def build(preset: Preset, size: int, weights: Path | None) -> keras.Model:
    """The backbone (n, size, size, 3) -> (n, h, w, c), without input scaling.

    Args:
        preset: row of provider keras_applications.
        size: side in pixels, at least 32.
        weights: `*_notop.h5` of keras.applications, `.weights.h5`, or their folder; None: random.
    """
    options = {"include_preprocessing": False} if preset.family == "efficientnet_v2" else {}
    backbone = getattr(keras.applications, preset.builder)(
        include_top=False, weights=None, input_shape=(size, size, 3), **options
    )
    if weights is not None:
        load_weights_file(backbone, weights, preset)
        if preset.convention == "mean_only":
            _take_rgb(backbone)
    if preset.family == "efficientnet_v1":
        # V1 scales and normalises inside, with statistics from the weights file (and one factor
        # more for weights="imagenet" only). The row's convention states the same in one place.
        backbone = keras.Model(
            backbone.get_layer("stem_conv_pad").input, backbone.output, name=backbone.name
        )
    return backbone


def _take_rgb(backbone: keras.Model) -> None:
    """Turn a first convolution trained on BGR (Caffe's order) into one for RGB."""
    stem = backbone.get_layer("conv1_conv")
    kernel, *rest = stem.get_weights()
    stem.set_weights([kernel[:, :, ::-1, :], *rest])
