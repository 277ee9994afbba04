"""The baseline: a plain stack of convolutions, what a first notebook on lesions would build.

For telling what a pretrained network is worth, so it has no pretrained weights.
"""

from pathlib import Path

import keras

from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file


def build(preset: Preset, size: int, weights: Path | None) -> keras.Model:
    """The backbone (n, size, size, 3) -> (n, size / 32, size / 32, c), without input scaling.

    Each block is a 3x3 convolution, batch normalisation, ReLU and 2x2 maximum pooling, which
    rounds odd sides up.

    Args:
        preset: row of provider kderm; its arguments name the filters of the blocks.
        size: side in pixels, at least 32.
        weights: a weights file of this architecture, or a folder that holds one; None: random.
    """
    layers = keras.layers
    inputs = x = keras.Input((size, size, 3), name="image")
    for number, filters in enumerate(preset.arguments["filters"], 1):
        block = f"block{number}"
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{block}_conv")(x)
        x = layers.BatchNormalization(name=f"{block}_norm")(x)
        x = layers.ReLU(name=f"{block}_relu")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"{block}_pool")(x)
    backbone = keras.Model(inputs, x, name="small_cnn")
    if weights is not None:
        load_weights_file(backbone, weights, preset)
    return backbone
