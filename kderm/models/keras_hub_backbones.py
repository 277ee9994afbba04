"""keras-hub backbones: explicit constructors for random weights, preset folders for trained."""

from pathlib import Path

import keras

from kderm.errors import UserError, reason_of
from kderm.models.keras_file import import_keras_hub
from kderm.models.presets import Preset
from kderm.models.weights import load_weights_file, misfit


def build(preset: Preset, size: int, weights: Path | None) -> keras.Model:
    """The backbone (n, any, any, 3) -> (n, h, w, c), without input scaling.

    Args:
        preset: row of provider keras_hub.
        size: unused by the constructors; keras-hub pads the same at every size, as timm does.
        weights: a preset folder, or a weights file; None: random.
    """
    keras_hub = import_keras_hub()
    if weights is None or not (weights / "config.json").is_file():
        backbone = getattr(keras_hub.models, preset.builder)(**preset.arguments)
    else:
        # The folder states its own architecture, which may differ in details such as dropout.
        try:
            backbone = keras_hub.models.Backbone.from_preset(str(weights), load_weights=False)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(
                f"Expected a keras-hub preset folder for {preset.name}. "
                f"Received: {weights} ({reason_of(error)})."
            ) from None
        if backbone.count_params() != preset.parameters:
            count = f"{backbone.count_params():,} parameters instead of {preset.parameters:,}"
            raise misfit(preset, weights, count)
    if weights is not None:
        load_weights_file(backbone, weights, preset)
    return backbone
