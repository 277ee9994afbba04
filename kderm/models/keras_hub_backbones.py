"""keras-hub backbones: explicit constructors for random weights, preset folders for trained."""

from pathlib import Path

import keras

from kderm.errors import UserError
from kderm.models.keras_file import import_keras_hub
from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file, reason_of


def build(preset: Preset, size: int, weights: Path | None) -> keras.Model:
    """The backbone (n, any, any, 3) -> (n, h, w, c), without input scaling.

    Args:
        preset: row of provider keras_hub.
        size: unused by the constructor; keras-hub pads the same at every size, as timm does.
        weights: a preset folder (keras-hub's or timm's), or a weights file; None: random.
    """
    keras_hub = import_keras_hub()
    if weights is not None and weights.is_dir() and (weights / "config.json").exists():
        try:
            return keras_hub.models.Backbone.from_preset(str(weights))
        except (ValueError, OSError, KeyError) as error:
            raise UserError(
                f"Expected a preset folder of keras-hub or timm for {preset.name}. "
                f"Received: {weights} ({reason_of(error)})."
            ) from None
    backbone = getattr(keras_hub.models, preset.builder)(**preset.arguments)
    if weights is not None:
        load_weights_file(backbone, weights, preset)
    return backbone
