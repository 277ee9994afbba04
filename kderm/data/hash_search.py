"""Finding near-equal hashes among many without comparing all with all.

Two hashes of 63 bits that differ in at most 6 agree in at least 3 of 9 bands of 7 bits, whichever
bits differ. So for each of the 84 ways of choosing 3 bands, images that agree in those 21 bits are
looked at, and no others. Source: Manku, Jain, Das Sarma 2007, "Detecting near-duplicates for web
crawling", section 3. Knows bits; no images and no files.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

BANDS = 9
BAND_BITS = 7
CHOSEN = 3
MOST_DIFFERENT = BANDS - CHOSEN
_CHUNK = 2_000_000
# Up to so many pairs, comparing all with all is quicker than the tables.
_FEW = 30_000_000
_ODD = np.arange(8) % 2 == 1


def symmetries() -> list[tuple[bool, bool, bool]]:
    """The symmetries of a square as (transpose, then flip rows, then flip columns).

    Seven of the eight: a turn by 270 degrees is left out, because it takes the second picture of a
    pair to the first where a turn by 90 degrees takes the first to the second.
    """
    every = [(t, u, v) for t in (False, True) for u in (False, True) for v in (False, True)]
    return [symmetry for symmetry in every if symmetry != (True, True, False)]


def turned(pictures: np.ndarray, symmetry: tuple[bool, bool, bool]) -> np.ndarray:
    """Pictures (n, h, h) under a symmetry, as a view."""
    transpose, rows, columns = symmetry
    pictures = pictures.swapaxes(1, 2) if transpose else pictures
    return pictures[:, :: -1 if rows else 1, :: -1 if columns else 1]


def turned_bits(bits: np.ndarray, symmetry: tuple[bool, bool, bool]) -> np.ndarray:
    """The bits, bool (n, 8, 8), that the turned pictures have."""
    transpose, rows, columns = symmetry
    bits = bits.swapaxes(1, 2) if transpose else bits
    bits = bits ^ ((rows & _ODD[:, None]) ^ (columns & _ODD[None, :]))
    bits[:, 0, 0] = False
    return bits


def pack(bits: np.ndarray) -> np.ndarray:
    """One uint64 (n,) of bits, bool (n, 8, 8).

    The bits of a band lie together. Each band gets low and high frequencies alike, because low ones
    differ little between pictures and a band of them would tell few apart.
    """
    frequency = np.add.outer(np.arange(8), np.arange(8)).ravel()[1:]
    order = np.argsort(frequency, kind="stable")
    places = np.concatenate([order[band::BANDS] for band in range(BANDS)])
    flat = bits.reshape(len(bits), 64)[:, 1:]
    packed = np.zeros(len(bits), np.uint64)
    for position, place in enumerate(places):
        packed |= flat[:, place].astype(np.uint64) << np.uint64(position)
    return packed


def near_pairs(
    first: np.ndarray, second: np.ndarray, allowed: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows (i, j) where first[i] and second[j] differ in at most `MOST_DIFFERENT` bits.

    Each pair comes once. Memory stays flat.

    Args:
        first: uint64 (n,), from `pack`.
        second: uint64 (m,).
        allowed: (i, j) -> bool; pairs that are refused are left out.
    """
    if len(first) * len(second) <= _FEW:
        yield from _compared_with_all(first, second, allowed)
        return
    for bands in combinations(range(BANDS), CHOSEN):
        keys_of_first, keys = _keys(first, bands), _keys(second, bands)
        order = np.argsort(keys, kind="stable")
        counts = np.bincount(keys, minlength=1 << (CHOSEN * BAND_BITS))
        ends = np.cumsum(counts)
        lengths = counts[keys_of_first]
        starts = ends[keys_of_first] - lengths
        for i, places in _expanded(starts, lengths):
            j = order[places]
            difference = first[i] ^ second[j]
            near = np.bitwise_count(difference) <= MOST_DIFFERENT
            i, j, difference = i[near], j[near], difference[near]
            keep = allowed(i, j) & _found_first_by(difference, bands)
            if keep.any():
                yield i[keep], j[keep]


def _compared_with_all(
    first: np.ndarray, second: np.ndarray, allowed: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = max(1, _CHUNK // max(1, len(second)))
    for start in range(0, len(first), rows):
        difference = first[start : start + rows, None] ^ second
        i, j = np.nonzero(np.bitwise_count(difference) <= MOST_DIFFERENT)
        i += start
        keep = allowed(i, j)
        if keep.any():
            yield i[keep], j[keep]


def _keys(hashes: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """int64 (n,): the bits of the bands, side by side."""
    key = np.zeros(len(hashes), np.uint64)
    for position, band in enumerate(bands):
        key |= _band(hashes, band) << np.uint64(position * BAND_BITS)
    return key.astype(np.int64)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    return (hashes >> np.uint64(band * BAND_BITS)) & np.uint64((1 << BAND_BITS) - 1)


def _found_first_by(difference: np.ndarray, bands: tuple[int, ...]) -> np.ndarray:
    """Whether `bands` is the first choice that a pair agrees in, so that it is given only once."""
    first = np.ones(len(difference), bool)
    for band in set(range(bands[-1])) - set(bands):
        first &= _band(difference, band) != 0
    return first


def _expanded(starts: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each row i the places starts[i] .. starts[i] + lengths[i], a chunk of rows at a time."""
    rows = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[rows])
    while len(rows):
        take = max(1, int(np.searchsorted(ends, _CHUNK, side="right")))
        part, size = rows[:take], lengths[rows[:take]]
        i = np.repeat(part, size)
        within = np.arange(len(i)) - np.repeat(np.cumsum(size) - size, size)
        yield i, starts[i] + within
        ends = ends[take:] - ends[take - 1]
        rows = rows[take:]
