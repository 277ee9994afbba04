"""Maps of many views and members become one map in the frame's own coordinates.

The counterpart of `kderm.models.averaging` for maps: each view's map is laid back to where the view
was cut from the frame (the inverse of its transform), and what overlaps is averaged. Because logits
are sums over places, the average is the map of the ensemble's mean logit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops
from scipy import sparse

from kderm.data.augment import plain_colours
from kderm.data.views import view_rounds
from kderm.data.warp import Warp
from kderm.explain.activation_maps import Evidence

# Shorter side of the grid that maps are laid on: finer than any last feature map, coarser than a
# frame, so that a thousand images fit in memory.
CANVAS_SIDE = 96


@dataclass(frozen=True)
class FrameMaps:
    """Evidence by place of the frame.

    Attributes:
        maps: float32 (n, t, H', W'), signed; 0 where no view looked.
        seen: bool (H', W'), where a view looked; the same for all images, as the views are.
        cell: side of one cell of the members' own maps, as a share of the frame's shorter side.
    """

    maps: np.ndarray
    seen: np.ndarray
    cell: float


def canvas_shape(frame: tuple[int, int]) -> tuple[int, int]:
    """(H', W') of the grid for a frame (H, W): its proportions, and no finer than the frame."""
    scale = min(1.0, CANVAS_SIDE / min(frame))
    return max(1, round(frame[0] * scale)), max(1, round(frame[1] * scale))


def lay_back(
    transform: np.ndarray, cells: tuple[int, int], canvas: tuple[int, int]
) -> tuple[sparse.csr_array, np.ndarray]:
    """How a view's map becomes a map of the frame: bilinear between the centres of its cells.

    Args:
        transform: float (2, 3), the view's, for `Warp`: from the view to the frame.
        cells: (h, w) of the view's map.
        canvas: (H', W') of the frame's.

    Returns:
        a sparse matrix (H'·W', h·w) to multiply with, zero rows where the view does not look, and
        bool (H'·W',), where it does.
    """
    (height, width), (rows, columns) = cells, canvas
    y, x = np.meshgrid(_centres(rows), _centres(columns), indexing="ij")
    in_frame = np.stack([x.ravel(), y.ravel()])
    linear, shift = transform[:, :2].astype(np.float64), transform[:, 2:].astype(np.float64)
    x, y = np.linalg.solve(linear, in_frame - shift)
    # Room for rounding: transforms are float32.
    seen = (np.abs(x) <= 1 + 1e-6) & (np.abs(y) <= 1 + 1e-6)
    left, right, x_share = _neighbours(x, width)
    top, bottom, y_share = _neighbours(y, height)
    corners = [
        (top * width + left, (1 - y_share) * (1 - x_share)),
        (top * width + right, (1 - y_share) * x_share),
        (bottom * width + left, y_share * (1 - x_share)),
        (bottom * width + right, y_share * x_share),
    ]
    place = np.arange(rows * columns)
    entries = np.concatenate([share * seen for _, share in corners])
    at = (np.tile(place, 4), np.concatenate([cell for cell, _ in corners]))
    return sparse.csr_array((entries, at), shape=(rows * columns, height * width)), seen


def _centres(length: int) -> np.ndarray:
    """Normalised coordinates of `length` cells' centres, as `Warp` counts them."""
    return (2.0 * np.arange(length) + 1.0) / length - 1.0


def _neighbours(normalised: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells around each coordinate, and the share of the second."""
    position = np.clip((normalised + 1.0) * length / 2.0 - 0.5, 0.0, length - 1.0)
    below = np.minimum(np.floor(position).astype(int), max(length - 2, 0))
    return below, np.minimum(below + 1, length - 1), position - below


def frame_maps(
    members: Sequence[Evidence],
    frames: np.ndarray,
    weights: np.ndarray,
    transforms: np.ndarray,
    *,
    metadata: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FrameMaps:
    """The mean evidence over members and views, in the frame's coordinates.

    A place counts the views that look at it; where views differ in reach, the mean is over those.

    Args:
        members: of one kind: the same classes and input.
        frames: uint8 (n, H, W, 3); read batch by batch.
        weights: float (n, t, k), see `Evidence`.
        transforms: float32 (v, 2, 3), one a view, see `kderm.data.views`.
        metadata: float32 (n, d), for members that take them.
        progress: called with (images done, n).
    """
    canvas = canvas_shape(frames.shape[1:3])
    sums = np.zeros((len(frames), weights.shape[1], canvas[0] * canvas[1]), np.float32)
    step = members[0].batch_size
    counts = np.zeros(canvas[0] * canvas[1])
    cell = 0.0
    back: dict[tuple[int, tuple[int, int]], tuple[sparse.csr_array, np.ndarray]] = {}
    for start in range(0, len(frames), step):
        rows = slice(start, start + step)
        batch = np.asarray(frames[rows])
        known = None if metadata is None else metadata[rows]
        counts = np.zeros_like(counts)
        for views in view_rounds(len(batch), len(transforms), step):
            pixels = [view_pixels(batch, transforms[view], members[0].size) for view in views]
            shown = np.concatenate(pixels)
            asked = np.tile(weights[rows], (len(views), 1, 1))
            told = None if known is None else np.tile(known, (len(views), 1))
            for member in members:
                found = member(shown, asked, told)  # (views x b, t, h, w)
                cells = found.shape[2:]
                for view, maps in zip(views, np.split(found, len(views)), strict=True):
                    if (view, cells) not in back:
                        back[view, cells] = lay_back(transforms[view], cells, canvas)
                        cell = max(cell, 1.0 / min(cells))
                    matrix, seen = back[view, cells]
                    flat = maps.reshape(-1, cells[0] * cells[1])
                    sums[rows] += (matrix @ flat.T).T.reshape(*maps.shape[:2], -1)
                    counts += seen
        if progress is not None:
            progress(min(start + step, len(frames)), len(frames))
    maps = sums / np.maximum(counts, 1).astype(np.float32)
    maps = maps.reshape(*sums.shape[:2], *canvas)
    return FrameMaps(maps, (counts > 0).reshape(canvas), cell)


def view_pixels(frames: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """The network's input for one view of `frames` uint8 (n, H, W, 3).

    Returns:
        float32 array (n, size, size, 3), 0..255.
    """
    transforms = np.tile(np.asarray(transform, np.float32), (len(frames), 1, 1))
    inputs = [frames, transforms, plain_colours(len(frames))]
    return ops.convert_to_numpy(Warp(size)(*map(ops.convert_to_tensor, inputs)))
