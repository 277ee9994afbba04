"""Image quality: blur, light, dark corners, hair and colour, measured on the decoded frames.

Numbers and flags, a row an image. Reads the image store and the headers of the files; decodes
nothing.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from kderm.data import hdf5
from kderm.data.preprocess import hair_mask
from kderm.errors import UserError

_CORNER = 0.12  # side of a corner, share of the frame's side
_DARK = 0.25  # of the bright part of the picture
_CHUNK = 64

# Flag -> what it says. Blur is told against the rest of the data set, since sharpness depends on
# the size and the compression of the files.
FLAGS = {
    "blurred": "far less fine detail than the rest of its source (3 robust deviations)",
    "dark corners": "half of the area of the corners is black: a microscope's round field",
    "hair": "dark hair covers a tenth of the picture or more",
    "too dark": "mean brightness under 50 of 255",
    "too bright": "mean brightness over 225 of 255",
    "bluer than red": "skin is redder than blue: a filter, or red and blue are swapped",
}
MEASURES = ("sharpness", "brightness", "dark_corners", "hair", "redness")


def measure(
    images: np.ndarray, rows: Sequence[int], progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Quality of frames of the store.

    Args:
        images: uint8 (n, H, W, 3), RGB.
        rows: which of them.
        progress: called with (images done, all).

    Returns:
        Columns `MEASURES`, in the order of `rows`: sharpness (log10 of the Laplacian's variance
        over the picture's), brightness (0..255), dark_corners and hair (shares; hair NaN without
        OpenCV), redness (mean red less mean blue).
    """
    find_hair = _hair_finder()
    starts = range(0, len(rows), _CHUNK)
    parts = []
    with ThreadPoolExecutor() as pool:
        chunks = (rows[start : start + _CHUNK] for start in starts)
        for part in pool.map(lambda chunk: _measure_chunk(images, chunk, find_hair), chunks):
            parts.append(part)
            if progress is not None:
                progress(min(len(parts) * _CHUNK, len(rows)), len(rows))
    return pd.DataFrame(np.concatenate(parts), columns=list(MEASURES))


def _hair_finder() -> Callable[[np.ndarray], np.ndarray] | None:
    try:
        hair_mask(np.zeros((32, 32, 3), np.uint8))
    except UserError:  # the optional package is not there: the pages say so
        return None
    return hair_mask


def _measure_chunk(
    images: np.ndarray, rows: Sequence[int], find_hair: Callable | None
) -> np.ndarray:
    frames = images[np.asarray(rows)]
    values = [_measure_one(frame, find_hair) for frame in frames]
    return np.array(values, np.float64).reshape(len(frames), len(MEASURES))


def _measure_one(frame: np.ndarray, find_hair: Callable | None) -> tuple[float, ...]:
    grey = np.asarray(Image.fromarray(frame).convert("L"), np.int16)
    edges = 4 * grey[1:-1, 1:-1]
    edges -= grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    sharpness = np.log10((edges.var() + 1e-3) / (grey.var() + 1e-3))
    red, _, blue = frame[::2, ::2].reshape(-1, 3).mean(axis=0)
    hair = float(find_hair(frame).mean()) if find_hair else np.nan
    return float(sharpness), float(grey.mean()), _dark_corners(frame), hair, red - blue


def _dark_corners(frame: np.ndarray) -> float:
    """Share of the four corners that is dark against the bright part of the picture."""
    y, x = (max(2, round(_CORNER * side)) for side in frame.shape[:2])
    bright = np.percentile(_light(frame[::4, ::4]), 90)
    corners = [frame[:y, :x], frame[:y, -x:], frame[-y:, :x], frame[-y:, -x:]]
    return float(np.mean([(_light(corner) < _DARK * bright).mean() for corner in corners]))


def _light(part: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(part[..., 0], part[..., 1]), part[..., 2])


def flag(quality: pd.DataFrame, sources: np.ndarray) -> pd.DataFrame:
    """Which images are of doubtful quality.

    Args:
        quality: columns `MEASURES`.
        sources: (n,), the data set that each image is of.

    Returns:
        Bool columns `FLAGS`, on the index of `quality`.
    """
    by_source = quality["sharpness"].groupby(sources)
    middle = by_source.transform("median")
    spread = (quality["sharpness"] - middle).abs().groupby(sources).transform("median") * 1.4826
    return pd.DataFrame(
        {
            "blurred": quality["sharpness"] < middle - 3 * spread.clip(lower=0.05),
            "dark corners": quality["dark_corners"] >= 0.5,
            "hair": quality["hair"] >= 0.1,
            "too dark": quality["brightness"] < 50,
            "too bright": quality["brightness"] > 225,
            "bluer than red": quality["redness"] < 0,
        }
    )


def file_sizes(paths: Sequence[str]) -> pd.DataFrame:
    """Width, height and format of image files, from their headers.

    Args:
        paths: files, or members of HDF5 files.

    Returns:
        Columns width, height (0 where the header cannot be read) and format.
    """
    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(_header, paths))
    return pd.DataFrame(rows, columns=["width", "height", "format"])


def _header(path: str) -> tuple[int, int, str]:
    try:
        member = hdf5.is_member(path)
        with Image.open(io.BytesIO(hdf5.read_member(path)) if member else Path(path)) as image:
            return image.width, image.height, image.format or ""
    # Whatever a damaged file drives Pillow into: that it cannot be read is told elsewhere.
    except Exception:
        return 0, 0, ""
