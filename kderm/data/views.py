"""Test-time views: fixed transforms of a frame whose predictions are averaged.

The enumerated counterpart of `kderm.data.augment`; `kderm.data.warp.Warp` applies both. Must stay
free of Keras and of pixels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from kderm.data.augment import frame_transform
from kderm.errors import unknown_name

_PLAIN = np.eye(2)
_MIRROR_X = np.diag([-1.0, 1.0])
_MIRROR_Y = np.diag([1.0, -1.0])
_QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])

# 8/7 reads a frame stored at the default 8/7 of the model's input pixel for pixel.
_ZOOMS = (1.0, 8 / 7, 4 / 3)
# Side of a corner crop, as a share of the frame's shorter side.
_CROP = 0.85

# (linear, centre) of one view, in the units of `frame_transform`.
_View = tuple[np.ndarray, tuple[float, float]]


@dataclass(frozen=True)
class ViewSet:
    """One way to look at an image several times.

    Attributes:
        description: for people.
        count: number of views; the first is always the plain one.
        views: frame (H, W) -> the views.
    """

    description: str
    count: int
    views: Callable[[tuple[int, int]], Iterable[_View]]


def _none(frame: tuple[int, int]) -> Iterable[_View]:
    yield _PLAIN, (0, 0)


def _flips(frame: tuple[int, int]) -> Iterable[_View]:
    for linear in (_PLAIN, _MIRROR_X, _MIRROR_Y):
        yield linear, (0, 0)


def _d4(frame: tuple[int, int]) -> Iterable[_View]:
    for mirror in (_PLAIN, _MIRROR_X):
        for turns in range(4):
            yield np.linalg.matrix_power(_QUARTER_TURN, turns) @ mirror, (0, 0)


def _multi_scale(frame: tuple[int, int]) -> Iterable[_View]:
    for zoom in _ZOOMS:
        for mirror in (_PLAIN, _MIRROR_X):
            yield mirror / zoom, (0, 0)


def _multi_crop(frame: tuple[int, int]) -> Iterable[_View]:
    yield _PLAIN, (0, 0)
    height, width = frame
    right = width / min(frame) - _CROP  # centre of a crop that touches the frame's right edge
    bottom = height / min(frame) - _CROP
    for y in (-bottom, bottom):
        for x in (-right, right):
            yield _CROP * _PLAIN, (x, y)


VIEWS: dict[str, ViewSet] = {
    "none": ViewSet("the centre square", 1, _none),
    "flips": ViewSet("plain, mirrored horizontally, mirrored vertically", 3, _flips),
    "d4": ViewSet("four quarter turns, plain and mirrored", 8, _d4),
    "multi_scale": ViewSet(
        "centre squares at zoom 1, 8/7 and 4/3, each plain and mirrored horizontally",
        6,
        _multi_scale,
    ),
    "multi_crop": ViewSet(
        "plain, and squares of 85 % of the shorter side in the frame's four corners", 5, _multi_crop
    ),
}


def view_transforms(name: str, frame: tuple[int, int]) -> np.ndarray:
    """The transforms of a view set, for `Warp`; the plain view first.

    Args:
        name: key of `VIEWS`.
        frame: (H, W) of the stored frame, pixels.

    Returns:
        float32 array (v, 2, 3).

    Raises:
        UserError: no such view set.
    """
    if name not in VIEWS:
        raise unknown_name("view set", name, VIEWS)
    views = VIEWS[name].views(frame)
    return np.stack([frame_transform(linear, np.array(centre), frame) for linear, centre in views])


def view_rounds(images: int, views: int, batch_size: int) -> list[range]:
    """Which views of `images` images are shown together: as many as one batch has room for.

    Of few images one batch of eight views costs about a quarter of eight batches. The rounds are of
    one size, as far as it goes, because backends that compile pad what is left over.
    """
    rounds = -(-views // max(1, batch_size // max(1, images)))
    step = -(-views // rounds)
    return [range(views)[start : start + step] for start in range(0, views, step)]
