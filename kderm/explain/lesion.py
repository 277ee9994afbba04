"""What lies where in a frame: the lesion, dark corners, thin dark marks, the border.

For `kderm.explain.artefacts`, which asks how much of a map falls on each. Found by simple means:
a rough guide to where a network looks, no segmentation to measure lesions with. Knows pixels only.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Channel 2, blue: pigment and blood absorb it most, and skin reflects it well.
LESION_CHANNEL = 2
# Smoothing before Otsu's threshold, and the rim around the lesion that still counts as it, both as
# shares of the frame's shorter side: networks look at the edge from both sides.
SMOOTHING, RIM = 0.02, 0.05
# A "lesion" outside of these shares of the frame, or of less contrast (of 255), is no finding.
SMALLEST, LARGEST, LEAST_CONTRAST = 0.005, 0.8, 12.0
# What is darker than this in every channel and joined to a corner is the microscope's edge.
DARK = 55
# Along that edge the light fades; this share of the shorter side is no skin to compare with.
SHADE = 0.08
# Width of the border, and of what counts as a thin mark, as shares of the shorter side.
BORDER, MARK_WIDTH = 0.08, 0.035
# How much darker than its surroundings a thin mark is, of 255.
MARK_CONTRAST = 28.0


@dataclass(frozen=True)
class Places:
    """Masks of one frame, bool (H, W) each.

    Attributes:
        lesion: the lesion with a rim around it; None where none was found.
        corners: dark corners, the edge of the microscope's field.
        marks: thin dark marks outside of the lesion: a ruler's ticks, hairs.
        border: the outer edge of what the network sees.
    """

    lesion: np.ndarray | None
    corners: np.ndarray
    marks: np.ndarray
    border: np.ndarray


def find_places(frame: np.ndarray, seen: np.ndarray, cell: float = 0.0) -> Places:
    """Where the lesion and the usual suspects are in a frame.

    Args:
        frame: uint8 (H, W, 3), RGB.
        seen: bool (H, W), what the network sees; the border runs along its inside.
        cell: side of a cell of the map, as a share of the shorter side. The rim around the lesion
            is half a cell at least: a map cannot tell what is nearer to the edge than that.
    """
    corners = dark_corners(frame)
    shade = max(1, round(SHADE * min(frame.shape[:2])))
    usable = ~ndimage.binary_dilation(corners, iterations=shade)
    lesion = find_lesion(frame, usable, max(RIM, cell / 2))
    thin = thin_marks(frame) & ~corners
    marks = thin if lesion is None else thin & ~lesion
    width = max(1, round(BORDER * min(frame.shape[:2])))
    inner = ndimage.binary_erosion(seen, iterations=width, border_value=0)
    return Places(lesion, corners, marks, seen & ~inner)


def find_lesion(frame: np.ndarray, usable: np.ndarray, rim: float = RIM) -> np.ndarray | None:
    """The lesion and a rim around it, or None where nothing stands out from the skin.

    Otsu's threshold on the smoothed blue channel; of the dark parts the one that weighs most, each
    place counting less with its distance from the centre, with its holes filled. Source of the
    threshold: Otsu 1979, doi:10.1109/TSMC.1979.4310076.

    Args:
        frame: uint8 (H, W, 3), RGB.
        usable: bool (H, W), where skin may be (not the dark corners).
        rim: width of what still counts as lesion around it, as a share of the shorter side.

    Returns:
        bool array (H, W), or None.
    """
    side = min(frame.shape[:2])
    channel = frame[..., LESION_CHANNEL].astype(np.float64)
    if usable.mean() < 0.05:
        return None
    # Corners take the skin's usual value, or smoothing would carry their darkness into it.
    filled = np.where(usable, channel, np.percentile(channel[usable], 75))
    smooth = ndimage.gaussian_filter(filled, SMOOTHING * side)
    threshold = otsu(smooth[usable])
    dark = (smooth <= threshold) & usable
    if dark.all() or not dark.any():
        return None
    if smooth[usable & ~dark].mean() - smooth[dark].mean() < LEAST_CONTRAST:
        return None
    parts, count = ndimage.label(dark)
    weights = ndimage.sum_labels(_nearness(dark.shape), parts, np.arange(1, count + 1))
    lesion = ndimage.binary_fill_holes(parts == 1 + int(np.argmax(weights)))
    if not SMALLEST <= lesion.mean() <= LARGEST:
        return None
    return ndimage.binary_dilation(lesion, iterations=max(1, round(rim * side)))


def otsu(values: np.ndarray) -> float:
    """The threshold that parts `values` (any shape, 0..255) best: those at or below it, and above.

    Best is the largest variance between the two, over 256 bins; with values in one bin only, all
    are below.
    """
    counts = np.histogram(values, bins=256, range=(0, 256))[0].astype(np.float64)
    levels = np.arange(256) + 0.5
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.where((below > 0) & (above > 0), between, -1.0)
    if between.max() < 0:  # one value only
        return 256.0
    # Between two far clusters every threshold is as good: the middle one.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(best.mean() + 1.0)


def dark_corners(frame: np.ndarray) -> np.ndarray:
    """What is dark in every channel and hangs together with a corner, bool (H, W)."""
    dark = frame.max(axis=-1) < DARK
    parts, _ = ndimage.label(dark)
    corners = {int(parts[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    return np.isin(parts, list(corners))


def thin_marks(frame: np.ndarray) -> np.ndarray:
    """Thin things darker than what is around them, bool (H, W): ticks of a ruler, hairs, letters.

    A closing fills what is narrower than its window; where it fills much, there is a mark.
    """
    side = min(frame.shape[:2])
    grey = frame.mean(axis=-1)
    window = max(3, 2 * round(MARK_WIDTH * side / 2) + 1)
    depth = ndimage.grey_closing(grey, size=(window, window), mode="nearest") - grey
    return depth > MARK_CONTRAST


def _nearness(shape: tuple[int, ...]) -> np.ndarray:
    """1 in the centre, falling to a seventh in the middle of an edge, (H, W)."""
    rows, columns = (np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape)
    return np.exp(-2.0 * (rows[:, None] ** 2 + columns[None, :] ** 2))
