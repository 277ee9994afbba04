"""Frames to the network's input, view by view: one resample for all views that mirror one another.

What `kderm.data.views` enumerates and `kderm.data.warp.Warp` cuts out, for engines that need no
Keras. A view that is a flip or a quarter turn of another one is made by turning that one's pixels,
which moves them and changes none. Numpy only.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Turn:
    """One of the eight symmetries of a square: flips first, then a transposition.

    Attributes:
        rows: flip top to bottom.
        columns: flip left to right.
        transpose: then swap rows and columns.
    """

    rows: bool = False
    columns: bool = False
    transpose: bool = False

    @property
    def axes(self) -> list[int]:
        """The axes of (n, s, s, 3) pixels to flip."""
        return [axis for axis, flip in ((1, self.rows), (2, self.columns)) if flip]

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (n, s, s, 3), turned."""
        turned = np.flip(pixels, self.axes)
        return np.ascontiguousarray(turned.swapaxes(1, 2) if self.transpose else turned)


@dataclass(frozen=True)
class Look:
    """How a view comes about: the resample by the transform of view `base`, then a turn."""

    base: int
    turn: Turn


def looks(transforms: np.ndarray) -> list[Look]:
    """For each view the first one that it is a turned copy of, itself if there is none.

    Args:
        transforms: float (v, 2, 3), as `Warp` takes them.
    """
    found: list[Look] = []
    for number, transform in enumerate(transforms):
        own = Look(number, Turn())
        for base in dict.fromkeys(look.base for look in found):
            turn = _turn_between(transforms[base], transform)
            if turn is not None:
                own = Look(base, turn)
                break
        found.append(own)
    return found


def _turn_between(base: np.ndarray, transform: np.ndarray) -> Turn | None:
    """The turn that makes the view `transform` of the view `base`; None if no turn does."""
    linear, other = base[:, :2].astype(np.float64), transform[:, :2].astype(np.float64)
    if not np.allclose(base[:, 2], transform[:, 2], atol=1e-6) or np.linalg.det(linear) == 0:
        return None
    # The view shows at u what `base` shows at between·u.
    between = np.linalg.solve(linear, other)
    rounded = np.round(between)
    if not np.allclose(between, rounded, atol=1e-6):
        return None
    if not np.array_equal(np.abs(rounded).sum(axis=0), [1, 1]) or np.linalg.det(rounded) == 0:
        return None
    to_column, to_row = rounded.sum(axis=1)
    return Turn(bool(to_row < 0), bool(to_column < 0), bool(rounded[0, 0] == 0))


def resample(frames: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """Cut the same view out of all frames: the pixels of `Warp`, with plain colours.

    Args:
        frames: uint8 (n, H, W, 3).
        transform: float (2, 3), without rotation: the turned views come from `Turn`.
        size: s, side of the view.

    Returns:
        float32 (n, s, s, 3), range 0..255.
    """
    entry = transform.astype(np.float32)
    if entry[0, 1] or entry[1, 0]:
        raise ValueError(f"Expected a view whose axes are the frame's. Received: {transform}")
    centres = (2 * np.arange(size, dtype=np.float32) + 1) / np.float32(size) - 1
    height, width = frames.shape[1:3]
    top, bottom, down = _neighbours(entry[1, 1] * centres + entry[1, 2], height)
    left, right, across = _neighbours(entry[0, 0] * centres + entry[0, 2], width)
    rows = _mixed(frames[:, top], frames[:, bottom], down[:, None, None])
    return _mixed(rows.take(left, axis=2), rows.take(right, axis=2), across[:, None])


def _mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """float32 first·(1 - share) + second·share."""
    mixed = first * (1 - share)
    mixed += second * share
    return mixed


def _neighbours(normalised: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels around each coordinate, reflected at the edges, and the second's share."""
    extent = np.float32(length)
    from_edge = (normalised + 1) * (extent / 2)
    folded = np.mod(np.abs(from_edge), 2 * extent)
    reflected = extent - np.abs(folded - extent)
    position = np.clip(reflected - np.float32(0.5), 0, extent - 1)
    below = np.floor(position)
    first = below.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), position - below
