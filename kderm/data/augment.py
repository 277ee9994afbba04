"""Augmentation, the drawing half: random transforms, colours and effects, as plain numbers.

Training draws them here with numpy, one row an image. On the device `kderm.data.warp.Warp` applies
transforms and colours in one resample, and `kderm.data.effects.Effects` what no resample can do.
Test-time views are the enumerated counterpart (`kderm.data.views`). Must stay free of Keras and of
pixels.

Both halves share two conventions. `transforms` float32 (n, 2, 3) map output coordinates to input
coordinates, both normalised to [-1, 1] over the outer edges of the picture, x right and y down.
`colours` float32 (n, 3, 4) map rgb in 0..255 to M·rgb + b; clipping comes after.
"""

from collections.abc import Mapping

import numpy as np

from kderm.errors import UserError

# Luma of ITU-R BT.601, the Y of the YIQ space below.
_LUMA = np.array([0.299, 0.587, 0.114])

# RGB to YIQ, NTSC (FCC, 1953). Source: 47 CFR 73.682(a)(20), with I and Q in the usual four digits.
_RGB_TO_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

# Projection of rgb onto its grey of equal luma; what is left of rgb is chroma, the I-Q plane.
_GREY = np.ones((3, 1)) * _LUMA
# A quarter turn in the I-Q plane, seen from rgb.
_QUARTER_TURN = np.linalg.inv(_RGB_TO_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ _RGB_TO_YIQ

_MID_GREY = 127.5


def plain_transform(frame: tuple[int, int]) -> np.ndarray:
    """The centre square of a frame (H, W) at its full shorter side.

    Returns:
        float32 array (2, 3).
    """
    return frame_transform(np.eye(2), np.zeros(2), frame)


def plain_colours(n: int) -> np.ndarray:
    """Colours that change nothing: float32 array (n, 3, 4)."""
    return np.tile(np.eye(3, 4, dtype=np.float32), (n, 1, 1))


def frame_transform(linear: np.ndarray, centre: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """Normalise transforms given in pixels, so that a rotation is one on rectangular frames too.

    Args:
        linear: float array (..., 2, 2), (x, y) offsets from the output's centre to offsets from the
            input's, both in halves of the frame's shorter side.
        centre: float array (..., 2), (x, y) of the output's centre in the input, measured from the
            frame's centre, in halves of the shorter side.
        frame: (H, W) in pixels.

    Returns:
        float32 array (..., 2, 3).
    """
    height, width = frame
    aspect = min(frame) / np.array([width, height], dtype=np.float64)
    columns = np.concatenate([linear, np.asarray(centre)[..., None]], axis=-1)
    return (aspect[:, None] * columns).astype(np.float32)


def draw_transforms(
    rng: np.random.Generator,
    n: int,
    frame: tuple[int, int],
    *,
    flip: bool,
    rotation: float,
    zoom: float,
    shift: float,
) -> np.ndarray:
    """Draw one transform an image: flips, then a rotation and a zoom about the centre, and a shift.

    Six numbers are drawn an image whatever is switched on, so that changing one amount leaves the
    others' draws as they were.

    Args:
        rng: source of randomness.
        n: number of images.
        frame: (H, W) of the stored frame, pixels.
        flip: mirror horizontally and, independently, vertically, each with probability 0.5.
        rotation: uniform in +- this, degrees.
        zoom: magnification, log-uniform in [1 / (1 + zoom), 1 + zoom].
        shift: x and y each uniform in +- this share of the frame's shorter side.

    Returns:
        float32 array (n, 2, 3).
    """
    drawn = rng.random((n, 6))
    mirrors = np.where((drawn[:, :2] < 0.5) & flip, -1.0, 1.0)
    amounts = 2 * drawn[:, 2:] - 1
    angle = np.deg2rad(rotation) * amounts[:, 0]
    magnification = (1 + zoom) ** amounts[:, 1]
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=-2)
    linear = turn * mirrors[:, None, :] / magnification[:, None, None]
    return frame_transform(linear, 2 * shift * amounts[:, 2:], frame)


def draw_colours(
    rng: np.random.Generator,
    n: int,
    *,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> np.ndarray:
    """Draw one affine colour matrix an image: hue and saturation, then contrast, then brightness.

    Source: the rotation and scaling of the I-Q plane of P. Haeberli, "Matrix operations for image
    processing", 1993. Differs: NTSC's YIQ as the luma-chroma space, contrast about a fixed mid-grey
    (not the picture's mean), so that the whole is one matrix and an image's colours never depend on
    its content. Four numbers are drawn an image whatever is switched on.

    Args:
        rng: source of randomness.
        n: number of images.
        brightness: added to all channels, uniform in +- this share of 255.
        contrast: factor about mid-grey, uniform in 1 +- this.
        saturation: factor about luma, uniform in 1 +- this.
        hue: rotation of chroma, uniform in +- this many turns.

    Returns:
        float32 array (n, 3, 4).
    """
    amounts = 2 * rng.random((n, 4)) - 1
    added = 255 * brightness * amounts[:, 0]
    contrast_factor = 1 + contrast * amounts[:, 1]
    saturation_factor = 1 + saturation * amounts[:, 2]
    angle = 2 * np.pi * hue * amounts[:, 3]

    return colour_matrix(contrast_factor, saturation_factor, angle, added).astype(np.float32)


def colour_matrix(
    contrast: np.ndarray,
    saturation: np.ndarray,
    angle: np.ndarray | float = 0.0,
    added: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Hue and saturation, then contrast, then brightness, as one affine matrix an image.

    Args:
        contrast: factor about mid-grey, float (n,).
        saturation: factor about luma, float (n,).
        angle: rotation of chroma, radians, (n,) or for all.
        added: to all channels, of 0..255, (n,) or for all.

    Returns:
        float64 array (n, 3, 4).
    """
    along = (saturation * np.cos(angle))[:, None, None]
    across = (saturation * np.sin(angle))[:, None, None]
    matrix = _GREY + along * (np.eye(3) - _GREY) + across * _QUARTER_TURN
    matrix *= contrast[:, None, None]
    offset = added + _MID_GREY * (1 - contrast)
    columns = np.broadcast_to(offset[:, None, None], (len(matrix), 3, 1))
    return np.concatenate([matrix, columns], axis=-1)


# What `kderm.data.effects.Effects` does to one image, one number a column, and the number at which
# it does nothing:
# sharpness     factor of the detail above a 3 x 3 smoothing; 1 is as it was
# autocontrast  share of the way to channels stretched over 0..255
# posterize     pixels are rounded down to multiples of this
# solarize      pixels from here up are inverted
# blur          sigma of a Gaussian, pixels of the network's input
# noise         standard deviation, of 255
# cutout_*      centre and side of a square that takes the image's mean colour, shares of the side
# mixup         share of the partner's picture in all pixels
# box_*         edges of a box that shows the partner's picture, shares of the side
# partner       row of the batch that the two above take from
_IDENTITY = {
    "sharpness": 1.0,
    "autocontrast": 0.0,
    "posterize": 0.0,
    "solarize": 256.0,
    "blur": 0.0,
    "noise": 0.0,
    "cutout_x": 0.5,
    "cutout_y": 0.5,
    "cutout_side": 0.0,
    "mixup": 0.0,
    "box_left": 0.0,
    "box_top": 0.0,
    "box_right": 0.0,
    "box_bottom": 0.0,
    "partner": 0.0,
}
EFFECTS: tuple[str, ...] = tuple(_IDENTITY)


def identity_effects(n: int) -> np.ndarray:
    """Effects that change nothing: float32 array (n, e), columns `EFFECTS`."""
    return np.tile(np.array(list(_IDENTITY.values()), dtype=np.float32), (n, 1))


def uses_effects(augment: Mapping[str, float]) -> bool:
    """Whether any image of training with these amounts can need the layer `Effects`.

    Args:
        augment: amounts by name, as in the config's section; missing ones are 0.
    """
    switches = ("blur", "noise", "cutout", "mixup", "cutmix", "randaugment")
    return any(augment.get(name, 0) > 0 for name in switches)


def draw_effects(
    rng: np.random.Generator,
    n: int,
    *,
    blur: float,
    blur_sigma: float,
    noise: float,
    noise_sd: float,
    cutout: float,
    cutout_side: float,
    mixup: float,
    mixup_alpha: float,
    cutmix: float,
    cutmix_alpha: float,
) -> np.ndarray:
    """Draw one row of effects an image. An image is mixed by MixUp, by CutMix or not at all.

    Eleven numbers are drawn an image whatever is switched on, then the partners.

    Sources: DeVries and Taylor 2017, arXiv:1708.04552 (cutout: the centre may lie anywhere, so part
    of the square may fall outside); Zhang et al. 2018, arXiv:1710.09412 (MixUp); Yun et al. 2019,
    arXiv:1905.04899, algorithm A1 (CutMix). Differs: one lambda an image, not one a batch.

    Args:
        rng: source of randomness.
        n: number of images, the whole batch.
        blur: share of images that are blurred, sigma uniform up to `blur_sigma` pixels.
        blur_sigma: see there.
        noise: share of images that get noise, sd uniform up to `noise_sd`, of 255.
        noise_sd: see there.
        cutout: share of images that lose a square of side `cutout_side`, share of the side.
        cutout_side: see there.
        mixup: share of images mixed by MixUp, the partner's share from Beta(alpha, alpha).
        mixup_alpha: see there.
        cutmix: share of images with a CutMix box, of an area from Beta(alpha, alpha) before it is
            cut off at the border.
        cutmix_alpha: see there.

    Returns:
        float32 array (n, e), columns `EFFECTS`.

    Raises:
        UserError: more images to mix than there are.
    """
    check_mixing(mixup, cutmix)
    drawn = rng.random((n, 11))
    circle = rng.permutation(n)
    partners = np.empty(n, dtype=np.int64)
    partners[circle] = np.roll(circle, 1)  # nobody's partner is itself
    row = {name: np.full(n, value) for name, value in _IDENTITY.items()}
    row["blur"] = np.where(drawn[:, 0] < blur, blur_sigma * (1 - drawn[:, 1]), 0.0)
    row["noise"] = np.where(drawn[:, 2] < noise, noise_sd * (1 - drawn[:, 3]), 0.0)
    row["cutout_side"] = np.where(drawn[:, 4] < cutout, cutout_side, 0.0)
    row["cutout_x"], row["cutout_y"] = drawn[:, 5], drawn[:, 6]
    from scipy.special import betaincinv  # slow to import; prediction reads this module too

    by_mixup = drawn[:, 7] < mixup
    by_cutmix = ~by_mixup & (drawn[:, 7] < mixup + cutmix)
    row["mixup"] = np.where(by_mixup, betaincinv(mixup_alpha, mixup_alpha, drawn[:, 8]), 0.0)
    half = np.sqrt(betaincinv(cutmix_alpha, cutmix_alpha, drawn[:, 8])) / 2
    for centre, edges in zip(drawn[:, 9:].T, (("left", "right"), ("top", "bottom")), strict=True):
        for edge, position in zip(edges, (centre - half, centre + half), strict=True):
            row[f"box_{edge}"] = np.where(by_cutmix, position.clip(0, 1), 0.0)
    row["partner"] = np.where(by_mixup | by_cutmix, partners, 0)
    return np.stack([row[name] for name in EFFECTS], axis=-1).astype(np.float32)


def check_mixing(mixup: float, cutmix: float) -> None:
    """Refuse to mix more images than there are: an image is mixed in one way."""
    if mixup + cutmix > 1:
        raise UserError(
            "Expected augment.mixup + augment.cutmix of 1 at most, since an image is mixed in one "
            f"way. Received: {mixup:g} + {cutmix:g}. Lower one of them."
        )


def mix_rows(rows: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """Mix what belongs to the images as the pictures are: by MixUp's share or CutMix's area.

    Args:
        rows: float32 (n, d), one row for each image of the batch: its target or metadata.
        effects: float32 (n, e), columns `EFFECTS`.

    Returns:
        float32 array (n, d); rows of images that are not mixed are as they were.
    """
    column = dict(zip(EFFECTS, effects.T, strict=True))
    width = column["box_right"] - column["box_left"]
    height = column["box_bottom"] - column["box_top"]
    share = np.maximum(column["mixup"], width * height)[:, None]
    return (1 - share) * rows + share * rows[column["partner"].astype(np.int64)]
