"""Fingerprints: what tells whether two images are the same file or show the same picture.

Made from the image store's frames and the files behind them, kept beside the store, and compared by
`kderm.data.overlap`. Knows files and frames; no labels, no folds.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image

from kderm import atomic
from kderm.data.hdf5 import MemberError, is_member, read_member
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.store import ImageStore

Progress = Callable[[int, int], None]

# Takes part in the cache's name of what it holds. Raise it when a change below changes a number.
VERSION = "1"
SIDE = 32
FREQUENCIES = 8
CACHE = "fingerprints.npz"
_CHUNK = 256
# Fine structure is what is left of a thumbnail without a blur of this width, in pixels, ...
_COARSE = 1.5
# ... compressed so that differences of many grey levels count little more than those of a few.
# Without either, unrelated lesions look alike: most are one dark spot in the middle of a light
# field, and it alone makes them correlate by up to 0.975 (HAM10000). With both, by up to 0.62.
_FEW_LEVELS = 2.0
# Compressed values lie within -1..1, and within -2..2 without their mean: int8 holds them so.
_CODES = 63.0
# A picture whose fine structure is weaker than this (standard deviation in grey levels) is a blank
# field, which any other blank field resembles.
_LEAST_CONTRAST = 0.5


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints of n images, all made from frames of one shape.

    Attributes:
        image_ids: n ids.
        digests: uint8 (n, 32), SHA-256 of the file's bytes; zero where the file is not at hand.
        thumbnails: uint8 (n, SIDE, SIDE), the frame's centre square in grey; black if unreadable.
    """

    image_ids: list[str]
    digests: np.ndarray
    thumbnails: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def __add__(self, other: "Fingerprints") -> "Fingerprints":
        return Fingerprints(
            self.image_ids + other.image_ids,
            np.concatenate([self.digests, other.digests]),
            np.concatenate([self.thumbnails, other.thumbnails]),
        )

    def of(self, image_ids: Iterable[str]) -> "Fingerprints":
        """Those of the images named, in this order; ids that are not here are passed over."""
        wanted = set(image_ids)
        rows = [row for row, image_id in enumerate(self.image_ids) if image_id in wanted]
        ids = [self.image_ids[row] for row in rows]
        return Fingerprints(ids, self.digests[rows], self.thumbnails[rows])

    @property
    def has_digest(self) -> np.ndarray:
        """bool (n,): the file's bytes were read."""
        return self.digests.any(axis=1)


@dataclass(frozen=True)
class FineStructure:
    """What is left of n thumbnails without their coarse shape, compressed.

    Attributes:
        codes: int8 (n, SIDE, SIDE), of mean 0 but for rounding; 400,000 images take 0.4 GB.
        lengths: float32 (n,), root of the sum of squares; never 0.
        clear: bool (n,), there is enough to recognise the picture by.
    """

    codes: np.ndarray
    lengths: np.ndarray
    clear: np.ndarray


def store_fingerprints(
    store: ImageStore,
    paths: Mapping[str, str | os.PathLike],
    workers: int | None = None,
    progress: Progress | None = None,
) -> Fingerprints:
    """Fingerprints of a store's images, in its order; from the store's folder where they lie there.

    Args:
        store: a whole store.
        paths: image id to file. Files that are gone leave the digest unknown.
        workers: threads; by default one a core.
        progress: called with (images done, n).
    """
    # A memory map knows its file, and the cache belongs beside it.
    path = Path(store.images.filename).parent / CACHE
    key = hashlib.sha256(
        repr((VERSION, store.digest, sorted(store.unreadable))).encode()
    ).hexdigest()
    known = _read_cache(path, key, store)
    if known is not None and (known.has_digest | ~_at_hand(store, paths)).all():
        return known

    def one(row: int) -> tuple[bytes, np.ndarray]:
        image_id = store.image_ids[row]
        if image_id in store.unreadable:
            return bytes(32), np.zeros((SIDE, SIDE), np.uint8)
        return _digest(paths.get(image_id)), thumbnail(store.images[row])

    made = _collect(store.image_ids, one, workers, progress)
    if os.access(path.parent, os.W_OK):
        with atomic.atomic_path(path) as temporary:
            np.savez(temporary, key=key, digests=made.digests, thumbnails=made.thumbnails)
    return made


def file_fingerprints(
    image_ids: Sequence[str],
    paths: Sequence[str | os.PathLike],
    spec: ImageSpec,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Fingerprints:
    """Fingerprints of image files that are in no store; unreadable ones are left blank.

    Args:
        image_ids: n ids.
        paths: n files, same order.
        spec: the frame. Only fingerprints of one frame can be compared.
        workers: threads; by default one a core.
        progress: called with (images done, n).
    """

    def one(row: int) -> tuple[bytes, np.ndarray]:
        try:
            picture = thumbnail(read_image(paths[row], spec))
        except UnreadableImage:
            picture = np.zeros((SIDE, SIDE), np.uint8)
        return _digest(paths[row]), picture

    return _collect(list(image_ids), one, workers, progress)


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """The centre square of a frame, uint8 (h, w, 3), in grey, uint8 (SIDE, SIDE).

    A square, so that a picture that was turned by 90 degrees has the turned thumbnail.
    """
    side = min(frame.shape[:2])
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    square = Image.fromarray(frame[top : top + side, left : left + side]).convert("L")
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX))


def fine_structure(thumbnails: np.ndarray) -> FineStructure:
    """The fine structure of thumbnails, uint8 (n, SIDE, SIDE).

    The sum over a product of two `codes`, divided by both `lengths`, is their correlation.
    """
    count = len(thumbnails)
    codes = np.empty((count, SIDE, SIDE), np.int8)
    spread, lengths = np.empty(count, np.float32), np.empty(count, np.float32)
    for rows in _chunks(count, 4096):
        part = slice(rows.start, rows.stop)
        pixels = thumbnails[part].astype(np.float32)
        fine = pixels - _BLUR @ pixels @ _BLUR.T
        spread[part] = fine.std(axis=(1, 2))
        fine /= np.abs(fine) + _FEW_LEVELS
        fine -= fine.mean(axis=(1, 2), keepdims=True)
        fine = np.round(fine * _CODES)
        lengths[part] = np.sqrt(np.square(fine).sum(axis=(1, 2)))
        codes[part] = fine
    return FineStructure(codes, np.maximum(lengths, 1.0), spread > _LEAST_CONTRAST)


def perceptual_bits(thumbnails: np.ndarray) -> np.ndarray:
    """Signs of the lowest cosine coefficients of thumbnails, bool (n, FREQUENCIES, FREQUENCIES).

    The mean, at (0, 0), is False. By sign and not by median, unlike the usual "pHash", because then
    mirroring flips the bits of odd rows or columns and transposing transposes them, exactly: the
    eight symmetries of a picture are known from its own bits.
    """
    bits = np.empty((len(thumbnails), FREQUENCIES, FREQUENCIES), bool)
    for rows in _chunks(len(thumbnails), 4096):
        pixels = thumbnails[rows].astype(np.float32)
        bits[rows] = (
            _COSINES @ (pixels - pixels.mean(axis=(1, 2), keepdims=True)) @ _COSINES.T
        ) > 0
    bits[:, 0, 0] = False
    return bits


def _blur_matrix(sigma: float) -> np.ndarray:
    """float32 (SIDE, SIDE): a Gaussian blur along one axis, edge pixels repeated outwards."""
    reach = np.arange(-4 * SIDE, 5 * SIDE)
    weights = np.exp(-0.5 * ((reach - np.arange(SIDE)[:, None]) / sigma) ** 2)
    matrix = np.zeros((SIDE, SIDE))
    np.add.at(matrix, (slice(None), np.clip(reach, 0, SIDE - 1)), weights)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def _cosine_matrix() -> np.ndarray:
    """float32 (FREQUENCIES, SIDE): the first rows of the type-II discrete cosine transform."""
    positions = np.arange(SIDE) + 0.5
    angles = np.pi / SIDE * np.arange(FREQUENCIES)[:, None] * positions
    return np.cos(angles).astype(np.float32)


_BLUR = _blur_matrix(_COARSE)
_COSINES = _cosine_matrix()


def _digest(path: str | os.PathLike | None) -> bytes:
    """SHA-256 of a file's bytes, or zeros where it cannot be read."""
    if path is None:
        return bytes(32)
    try:
        if is_member(path):
            return hashlib.sha256(read_member(path)).digest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, MemberError):
        return bytes(32)


def _at_hand(store: ImageStore, paths: Mapping[str, str | os.PathLike]) -> np.ndarray:
    """bool (n,): the image's file could be digested now."""
    return np.array(
        [
            image_id not in store.unreadable
            and image_id in paths
            and (is_member(paths[image_id]) or os.path.isfile(paths[image_id]))
            for image_id in store.image_ids
        ],
        bool,
    )


def _read_cache(path: Path, key: str, store: ImageStore) -> Fingerprints | None:
    try:
        with np.load(path) as saved:
            if str(saved["key"]) != key:
                return None
            return Fingerprints(list(store.image_ids), saved["digests"], saved["thumbnails"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # absent or damaged: made again
        return None


def _collect(
    image_ids: list[str],
    one: Callable[[int], tuple[bytes, np.ndarray]],
    workers: int | None,
    progress: Progress | None,
) -> Fingerprints:
    """Run `one` for every row, in threads: hashing, decoding and resizing free the interpreter."""
    digests = np.zeros((len(image_ids), 32), np.uint8)
    thumbnails = np.zeros((len(image_ids), SIDE, SIDE), np.uint8)

    def fill(rows: range) -> int:
        for row in rows:
            digest, thumbnails[row] = one(row)
            digests[row] = np.frombuffer(digest, np.uint8)
        return len(rows)

    done = 0
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, thread_name_prefix="fingerprint")
    try:
        for count in pool.map(fill, _chunks(len(image_ids), _CHUNK)):
            done += count
            if progress is not None:
                progress(done, len(image_ids))
    finally:  # after an error or Ctrl-C: leave after the chunks in work, not after all
        pool.shutdown(cancel_futures=True)
    return Fingerprints(image_ids, digests, thumbnails)


def _chunks(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
