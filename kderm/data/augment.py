"""Augmentation, the drawing half: random transforms and colour matrices, as plain numbers.

Training draws them here with numpy, one row an image, and `kderm.data.warp.Warp` applies them on
the device in one resample. Test-time views are the enumerated counterpart (`kderm.data.views`).
Must stay free of Keras and of pixels.

Both halves share two conventions. `transforms` float32 (n, 2, 3) map output coordinates to input
coordinates, both normalised to [-1, 1] over the outer edges of the picture, x right and y down.
`colours` float32 (n, 3, 4) map rgb in 0..255 to M·rgb + b; clipping comes after.
"""

import numpy as np

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

    along = (saturation_factor * np.cos(angle))[:, None, None]
    across = (saturation_factor * np.sin(angle))[:, None, None]
    matrix = _GREY + along * (np.eye(3) - _GREY) + across * _QUARTER_TURN
    matrix *= contrast_factor[:, None, None]
    offset = added + _MID_GREY * (1 - contrast_factor)
    columns = np.broadcast_to(offset[:, None, None], (n, 3, 1))
    return np.concatenate([matrix, columns], axis=-1).astype(np.float32)
