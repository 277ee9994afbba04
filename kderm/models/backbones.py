"""From a preset to a backbone: flat, on pixels 0..255, made of ordinary Keras layers.

Providers build the raw network; here its weights are found, its input convention goes in front and
its composite blocks are taken apart, so that a saved model needs neither keras-cv nor keras-hub.
"""

import keras

from kderm.models.keras_file import rebuild, unroll
from kderm.models.presets import INPUT_CONVENTIONS, Preset, require_size
from kderm.models.weights import copy_weights_by_name, keras_donor, resolve_weights


def build_backbone(preset: Preset, size: int, weights: str = "preset") -> keras.Model:
    """The backbone as a flat functional model, float32 (n, size, size, 3) 0..255 -> (n, h, w, c).

    Args:
        preset: a row of the registry, or of `find_preset("file/...")`.
        size: side in pixels.
        weights: "preset", "none", or the path of a preset folder or weights file.

    Raises:
        UserError: weights cannot be had or do not fit, or the size is too small.
    """
    require_size(size)
    if preset.provider == "file":
        from kderm.models import saved_backbone

        return saved_backbone.build(preset, size, weights)
    path = resolve_weights(preset, weights)
    donor = keras_donor(path)
    raw = _builder(preset)(preset, size, None if donor else path)
    scale, offset = INPUT_CONVENTIONS[preset.convention]
    preprocess = keras.layers.Rescaling(
        list(scale), list(offset), dtype="float32", name="preprocess"
    )
    flat = unroll(raw, keras.Input((size, size, 3), name="image"), first=preprocess)
    # Fresh layers: those of `raw` still belong to its own graph.
    flat = rebuild(flat)
    if donor:
        copy_weights_by_name(flat, donor, preset)
    return flat


def _builder(preset: Preset):
    if preset.provider == "keras_cv":
        from kderm.models.keras_cv_backbones import build
    elif preset.provider == "keras_hub":
        from kderm.models.keras_hub_backbones import build
    elif preset.provider == "kderm":
        from kderm.models.small_cnn import build
    else:
        from kderm.models.keras_applications_backbones import build
    return build
