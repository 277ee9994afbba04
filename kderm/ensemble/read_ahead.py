"""Images to stored frames, one chunk ahead of the model, in threads."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kderm.data.images import ImageSource, ImageSpec, UnreadableImage, read_image


@dataclass(frozen=True)
class Decoded:
    """One chunk of decoded images.

    Attributes:
        number: of the chunk.
        frames: uint8 (n, H, W, 3), the readable images, in order.
        readable: bool (chunk length,), which images these are.
        errors: for each image of the chunk why it could not be read, or "".
    """

    number: int
    frames: np.ndarray
    readable: np.ndarray
    errors: list[str]


def decoded_chunks(
    chunks: Iterable[tuple[int, Sequence[tuple[ImageSource, str]]]],
    spec: ImageSpec,
    *,
    threads: int | None = None,
) -> Iterator[Decoded]:
    """Decode chunk after chunk; while one is in use the next one is being read.

    Args:
        chunks: (number, (source, problem) of each image); a problem that is known already makes
            the image unreadable without a look at it.
        spec: the frame.
        threads: how many images are decoded at a time, each of which takes memory for all its
            pixels; None for one a core, at most 16.
    """
    if threads is None:
        threads = min(16, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        ahead = None
        for number, images in chunks:
            begun = _begin(pool, number, images, spec)
            if ahead is not None:
                yield _finish(*ahead)
            ahead = begun
        if ahead is not None:
            yield _finish(*ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(
    pool: ThreadPoolExecutor,
    number: int,
    images: Sequence[tuple[ImageSource, str]],
    spec: ImageSpec,
) -> tuple[int, np.ndarray, list[Future[str]]]:
    frames = np.zeros((len(images), *spec.shape), np.uint8)

    def decode(row: int, source: ImageSource, problem: str) -> str:
        if problem:
            return problem
        try:
            frames[row] = read_image(source, spec)
        except UnreadableImage as error:
            return error.reason
        return ""

    futures = [pool.submit(decode, row, *image) for row, image in enumerate(images)]
    return number, frames, futures


def _finish(number: int, frames: np.ndarray, futures: list[Future[str]]) -> Decoded:
    errors = [future.result() for future in futures]
    readable = np.array([error == "" for error in errors], dtype=bool)
    return Decoded(number, frames if readable.all() else frames[readable], readable, errors)
