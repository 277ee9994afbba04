"""RandAugment, batched: random operations composed into transforms, colours and effects.

Nothing touches a pixel here. The drawn operations change the same three arrays that
`kderm.data.augment` draws, so they cost no resample of their own. Must stay free of Keras.
"""

import numpy as np

from kderm.data.augment import EFFECTS, colour_matrix

# The range of each operation at magnitude 1, up to +- this where it has two directions.
# Source: the ranges of Cubuk et al. 2019, arXiv:1805.09501, table 6, as RandAugment uses them.
OPERATIONS = {
    "identity": 0.0,
    "rotate": 30.0,  # degrees
    "shear_x": 0.3,
    "shear_y": 0.3,
    "translate_x": 0.45,  # shares of the side
    "translate_y": 0.45,
    "brightness": 0.9,  # factors 1 +- this
    "contrast": 0.9,
    "saturation": 0.9,
    "sharpness": 0.9,
    "solarize": 256.0,  # this much below 256
    "posterize": 4.0,  # bits fewer than 8
    "autocontrast": 1.0,  # has no magnitude
}


def rand_augment(
    rng: np.random.Generator,
    transforms: np.ndarray,
    colours: np.ndarray,
    effects: np.ndarray,
    *,
    operations: int,
    magnitude: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let `operations` random operations of one magnitude follow what was drawn for each image.

    Source: Cubuk et al. 2019, arXiv:1909.13719. Differs: the operations of an image are distinct
    and come in a fixed order (geometry, colours, effects), so that they fold into one resample and
    one matrix; there is no equalize; contrast is about mid-grey, not about the image's mean; what a
    shift uncovers is the mirrored picture, not black; brightness, contrast, saturation and
    sharpness go up or down at random, as later implementations do.

    Args:
        rng: source of randomness; takes 26 numbers an image.
        transforms: float32 (n, 2, 3), as drawn.
        colours: float32 (n, 3, 4), as drawn.
        effects: float32 (n, e), as drawn.
        operations: how many of `OPERATIONS` each image gets.
        magnitude: in [0, 1], share of each range.

    Returns:
        New transforms, colours and effects of the same shapes and type.
    """
    level = draw_levels(rng, len(transforms), operations, magnitude)
    return (
        _turned(transforms, level).astype(np.float32),
        _recoloured(colours, level).astype(np.float32),
        _with_effects(effects, level, magnitude),
    )


def draw_levels(
    rng: np.random.Generator, n: int, operations: int, magnitude: float
) -> dict[str, np.ndarray]:
    """For each operation float64 (n,): +- magnitude where an image gets it, else 0.

    identity, solarize, posterize and autocontrast are told by 1 where an image gets them: they have
    one direction, and the last no magnitude.
    """
    order = rng.random((n, len(OPERATIONS))).argsort(axis=1).argsort(axis=1)
    sign = np.where(rng.random((n, len(OPERATIONS))) < 0.5, -1.0, 1.0)
    chosen = order < operations
    one_way = {"identity", "solarize", "posterize", "autocontrast"}
    return {
        name: chosen[:, i] * (1.0 if name in one_way else magnitude * sign[:, i])
        for i, name in enumerate(OPERATIONS)
    }


def _turned(transforms: np.ndarray, level: dict[str, np.ndarray]) -> np.ndarray:
    """The output is square, so its normalised coordinates turn and shear as pixels do."""
    angle = np.deg2rad(OPERATIONS["rotate"]) * level["rotate"]
    one, none = np.ones_like(angle), np.zeros_like(angle)
    turn = _matrices([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear_x = _matrices([[one, OPERATIONS["shear_x"] * level["shear_x"]], [none, one]])
    shear_y = _matrices([[one, none], [OPERATIONS["shear_y"] * level["shear_y"], one]])
    shift = [2 * OPERATIONS[name] * level[name] for name in ("translate_x", "translate_y")]
    return _after(transforms, turn @ shear_x @ shear_y, np.stack(shift, axis=-1))


def _after(transforms: np.ndarray, linear: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Look at the output of `transforms` through (linear, centre): the product of both maps."""
    inner = np.concatenate([linear, centre[:, :, None]], axis=-1)
    whole = transforms[:, :, :2] @ inner
    whole[:, :, 2] += transforms[:, :, 2]
    return whole


def _recoloured(colours: np.ndarray, level: dict[str, np.ndarray]) -> np.ndarray:
    factor = {
        name: 1 + OPERATIONS[name] * level[name]
        for name in ("brightness", "contrast", "saturation")
    }
    changed = colour_matrix(factor["contrast"], factor["saturation"])
    changed *= factor["brightness"][:, None, None]
    whole = changed[:, :, :3] @ colours
    whole[:, :, 3] += changed[:, :, 3]
    return whole


def _with_effects(
    effects: np.ndarray, level: dict[str, np.ndarray], magnitude: float
) -> np.ndarray:
    changed = effects.copy()
    bits = round(OPERATIONS["posterize"] * magnitude)
    values = {
        "sharpness": 1 + OPERATIONS["sharpness"] * level["sharpness"],
        "solarize": 256 - OPERATIONS["solarize"] * magnitude * level["solarize"],
        "posterize": level["posterize"] * (2**bits if bits else 0),
        "autocontrast": level["autocontrast"],
    }
    for name, value in values.items():
        changed[:, EFFECTS.index(name)] = value
    return changed


def _matrices(entries: list[list[np.ndarray]]) -> np.ndarray:
    """Rows of entries (n,) as matrices (n, rows, columns)."""
    return np.stack([np.stack(row, axis=-1) for row in entries], axis=-2)
