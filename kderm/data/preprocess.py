"""Preprocessing: what is done to a picture once, when it is decoded.

Named by `image.preprocess`, applied by `images.read_image` (so alike in training and in prediction)
and recorded in the bundle. `border_crop` acts on the whole decoded picture, before it is resized to
the frame, wherever it stands in the list; the other steps act on the frame in the listed order.
Every length is a share of the frame, so that a step does the same at any size. A change here that
changes any pixel has to raise `images.DECODER_VERSION`.

Knows uint8 RGB arrays; no files, no tables, no Keras.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kderm.errors import UserError, missing_extra, unknown_name

# Of each side; a border that takes more is not a border (a dark lesion, a dark picture).
SMALLEST_KEPT_SIDE = 0.6

# A line at the picture's edge is border if more than this share of its pixels is dark. At a half, a
# round field keeps a square of 0.89 of its diameter.
_DARK_LINE = 0.5
# Dark is darker than this share of the bright part (90th percentile) of the picture, on 0..255.
_DARK_SHARE = 0.25
_BORDER_SIDE = 160  # the border is searched in a copy with about this longer side
_SMALLEST_SEARCHED = 8

_MINKOWSKI_POWER = 6

# Of the frame's shorter side. Hair is thin (hat) and long; dots and the meshes of a pigment network
# are as thin, but short.
_HAT_SHARE = 0.045
_LINE_SHARE = 0.1
_SHORTEST_HAIR = 0.14
_HAIR_CONTRAST = 15  # grey levels below the closed picture
_FULLEST_HAIR = 0.35  # share of its own bounding square (diagonal as side) that a hair may fill
_MOST_HAIR = 0.35  # of the frame; where more is found, inpainting would invent the picture
_INPAINT_SHARE = 0.012

_SQUARE = np.ones((3, 3), np.uint8)

_CLAHE_CLIP = 2.0
_CLAHE_TILES = 8


@dataclass(frozen=True)
class Step:
    """One row of `STEPS`.

    Attributes:
        apply: uint8 frame (H, W, 3) -> uint8 frame (H, W, 3); None for what acts before the resize.
        needs_opencv: whether the optional package is needed.
        does: in a few words, for people.
    """

    apply: Callable[[np.ndarray], np.ndarray] | None
    needs_opencv: bool
    does: str


def check_steps(steps: Sequence[str]) -> tuple[str, ...]:
    """The steps as a tuple, when each is known, is named once, and has its package.

    Raises:
        UserError: an unknown or repeated step, or OpenCV is not installed where it is needed.
    """
    steps = tuple(steps)
    for step in steps:
        if step not in STEPS:
            raise unknown_name("step of image.preprocess", step, STEPS)
        if STEPS[step].needs_opencv:
            _opencv(f"image.preprocess={step}")
    if len(set(steps)) < len(steps):
        raise UserError(
            "Expected each step of image.preprocess once. "
            f"Received: {', '.join(steps)}. Take the repeated one out."
        )
    return steps


def preprocess_frame(frame: np.ndarray, steps: Sequence[str]) -> np.ndarray:
    """Apply the steps that act on the resized frame, in order.

    Args:
        frame: uint8 (H, W, 3), RGB.
        steps: names in `STEPS`.

    Returns:
        uint8 (H, W, 3); `frame` itself where no step acts on it.
    """
    for step in steps:
        apply = STEPS[step].apply
        if apply is not None:
            frame = apply(frame)
    return frame


def border_box(picture: np.ndarray) -> tuple[int, int, int, int]:
    """The part of a picture inside its dark microscope border.

    Lines are peeled off the four sides, the darkest first, while more than half of a line is dark.
    If less than `SMALLEST_KEPT_SIDE` of either side would remain, nothing is cut.

    Args:
        picture: uint8 (h, w, 3), RGB.

    Returns:
        left, top, right, bottom in pixels; the whole picture where there is no border.
    """
    height, width = picture.shape[:2]
    if min(height, width) < _SMALLEST_SEARCHED:
        return 0, 0, width, height
    stride = max(1, max(height, width) // _BORDER_SIDE)
    light = picture[::stride, ::stride].max(axis=-1)
    dark = light < _DARK_SHARE * np.percentile(light, 90)
    # The outermost line is often one of the file format's making: a grey rim, a dark rounding.
    dark[[0, -1]], dark[:, [0, -1]] = dark[[1, -2]], dark[:, [1, -2]]
    top, bottom, left, right = _peel(dark)
    rows, columns = dark.shape
    kept = min((bottom - top) / rows, (right - left) / columns)
    if kept < SMALLEST_KEPT_SIDE:
        return 0, 0, width, height
    return (
        left * stride,
        top * stride,
        width if right == columns else right * stride,
        height if bottom == rows else bottom * stride,
    )


def _peel(dark: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of what is left when dark edge lines are taken off."""
    top, left = 0, 0
    bottom, right = dark.shape
    while bottom - top > 1 and right - left > 1:
        inside = dark[top:bottom, left:right]
        shares = [
            inside[0].mean(),
            inside[-1].mean(),
            inside[:, 0].mean(),
            inside[:, -1].mean(),
        ]
        side = int(np.argmax(shares))
        if shares[side] <= _DARK_LINE:
            break
        top += side == 0
        bottom -= side == 1
        left += side == 2
        right -= side == 3
    return top, bottom, left, right


def shades_of_gray(frame: np.ndarray) -> np.ndarray:
    """Take the colour of the light out: each channel by its Minkowski mean, p = 6.

    Source: Finlayson and Trezzi 2004, Shades of Gray and Colour Constancy; for dermoscopy Barata et
    al. 2015. On the stored sRGB values, without undoing their gamma, as the field does.

    Args:
        frame: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 3); a black frame stays black.
    """
    values = np.arange(256, dtype=np.float64)
    counts = np.stack([np.bincount(frame[..., c].ravel(), minlength=256) for c in range(3)])
    means = (counts @ values**_MINKOWSKI_POWER / counts.sum(axis=1)) ** (1 / _MINKOWSKI_POWER)
    if not means.all():  # a channel without any light has no gain
        return frame
    gains = np.linalg.norm(means) / (np.sqrt(3) * means)
    tables = np.clip(np.rint(values * gains[:, None]), 0, 255).astype(np.uint8)
    return np.stack([tables[c][frame[..., c]] for c in range(3)], axis=-1)


def clahe(frame: np.ndarray) -> np.ndarray:
    """Even out local contrast: CLAHE on L of CIE Lab, 8 x 8 tiles, clip limit 2.

    Source: Zuiderveld 1994, Contrast Limited Adaptive Histogram Equalization; OpenCV's.

    Args:
        frame: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 3).
    """
    cv2 = _opencv("image.preprocess=clahe")
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    equalise = cv2.createCLAHE(_CLAHE_CLIP, (_CLAHE_TILES, _CLAHE_TILES))
    lab[..., 0] = equalise.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def hair_mask(frame: np.ndarray) -> np.ndarray:
    """Where dark hair lies: thin, straight enough structures, darker than what is around them.

    Black-hat of the grey picture, a threshold, openings with lines in twelve directions, and of the
    connected parts those that are longer than such a line. A pigment network is as thin, but its
    meshes are short; long ones, marker pen and black crusts are still taken for hair at times.

    Args:
        frame: uint8 (H, W, 3), RGB.

    Returns:
        bool (H, W).
    """
    cv2 = _opencv("Finding hair")
    side = min(frame.shape[:2])
    size = _odd(_HAT_SHARE * side)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    # A dark rim of a pixel or two, of the file format's making, would count as hair.
    grey[:2], grey[-2:], grey[:, :2], grey[:, -2:] = grey[2], grey[-3], grey[:, 2:3], grey[:, -3:-2]
    hat = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, kernel)
    thin = (hat >= _HAIR_CONTRAST).astype(np.uint8)
    straight = np.zeros_like(thin)
    for line in _lines(_odd(_LINE_SHARE * side)):
        straight |= cv2.morphologyEx(thin, cv2.MORPH_OPEN, line)
    thin &= cv2.dilate(straight, np.ones((5, 5), np.uint8))  # the bends between the straight pieces
    _, parts, facts, _ = cv2.connectedComponentsWithStats(thin, connectivity=8)
    left, top, width, height, area = facts.T
    length = np.hypot(width, height)
    is_hair = length >= _SHORTEST_HAIR * side
    is_hair &= area <= _FULLEST_HAIR * length**2
    # Nor does a bar of the microscope's border along one edge.
    at_top_or_bottom = (top == 0) | (top + height == grey.shape[0])
    at_a_side = (left == 0) | (left + width == grey.shape[1])
    is_hair &= ~((at_top_or_bottom & (height <= size)) | (at_a_side & (width <= size)))
    is_hair[0] = False  # the background
    return is_hair[parts]


@functools.cache
def _lines(length: int) -> tuple[np.ndarray, ...]:
    """Twelve lines through the middle of a square, 15 degrees apart, uint8 (length, length)."""
    half = length // 2
    steps = np.arange(-half, half + 1)
    lines = []
    for angle in np.arange(12) * np.pi / 12:
        reach = max(abs(np.cos(angle)), abs(np.sin(angle)))  # no gaps: one pixel a row or column
        line = np.zeros((length, length), np.uint8)
        rows = half + np.rint(steps * np.sin(angle) / reach).astype(int)
        columns = half + np.rint(steps * np.cos(angle) / reach).astype(int)
        kept = np.hypot(rows - half, columns - half) <= half + 0.5
        line[rows[kept], columns[kept]] = 1
        lines.append(line)
    return tuple(lines)


def remove_hair(frame: np.ndarray) -> np.ndarray:
    """Paint over dark hair from its surroundings.

    Source: the steps of DullRazor (Lee et al. 1997) with OpenCV's black-hat and inpainting (Telea
    2004). Differs: short or compact dark structures stay, since dots and pigment network are signs.

    Args:
        frame: uint8 (H, W, 3), RGB.

    Returns:
        uint8 (H, W, 3); `frame` itself where no hair is found, or more than can be painted over.
    """
    cv2 = _opencv("image.preprocess=hair_removal")
    mask = hair_mask(frame)
    if not mask.any() or mask.mean() > _MOST_HAIR:
        return frame
    side = min(frame.shape[:2])
    wider = cv2.dilate(mask.astype(np.uint8), _SQUARE)
    return cv2.inpaint(frame, wider, max(2.0, _INPAINT_SHARE * side), cv2.INPAINT_TELEA)


def _odd(length: float) -> int:
    """The odd whole number nearest to a length, at least 3."""
    return max(3, 2 * int(length / 2) + 1)


@functools.cache
def _import_opencv() -> ModuleType | None:
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)  # images are decoded on as many threads as there are cores
    return cv2


def _opencv(purpose: str) -> ModuleType:
    cv2 = _import_opencv()
    if cv2 is None:
        raise missing_extra("opencv-python-headless", "opencv", purpose)
    return cv2


STEPS = {
    "border_crop": Step(None, False, "dark microscope border cut off"),
    "hair_removal": Step(remove_hair, True, "dark hair painted over"),
    "shades_of_gray": Step(shades_of_gray, False, "colour of the light taken out"),
    "clahe": Step(clahe, True, "local contrast evened out"),
}
