"""Overlap: which images are the same, by id, by file or by picture.

Compares fingerprints, of one data set with itself or of two. `kderm.data.prepare` groups or removes
what is found, `kderm.data.audit` and `kderm.ensemble.external` report it. Opens no file.
"""

import re

import numpy as np
import pandas as pd

from kderm.data.datasets.image_index import stem
from kderm.data.fingerprints import (
    FineStructure,
    Fingerprints,
    fine_structure,
    perceptual_bits,
)
from kderm.data.hash_search import near_pairs, pack, symmetries, turned, turned_bits

COLUMNS = ["image_id_1", "image_id_2", "by", "similarity"]
# Correlation of fine structure from which two pictures are one. Among 13,000 real images, the most
# alike of different lesions reach 0.62. Of 1,500 copies of HAM10000 images under new names, found
# were 999 of 1000 scaled by 0.7 and saved as JPEG of quality 60, all that were turned by 90 degrees
# or had their white balance changed, 995 of 1000 made lighter by 1.2, 963 with 1.5 % cut off at
# each edge, and no image of another lesion beside. Hardly any with 3 % cut off or turned by 1.5
# degrees, and none whose aspect ratio was changed: those need a list of duplicates.
SAME_PICTURE = 0.8
_CHUNK = 4096
# Ids that mean one image wherever they stand. Others ("IMG_0001") may mean anything.
_GLOBAL_ID = re.compile(r"(isic_\d{5,}|pat_\d+_\d+_\d+)(_downsampled)?")


def find(a: Fingerprints, b: Fingerprints | None = None) -> pd.DataFrame:
    """Pairs of images that are the same.

    Args:
        a: fingerprints.
        b: other fingerprints of the same frame; pairs are then one of `a` and one of `b`, and
            otherwise two of `a`.

    Returns:
        Columns `COLUMNS`, a pair a row, ordered by the images' positions. `by` is the strongest
        evidence: "id" (one ISIC or PAD-UFES id, folders, file suffix and `_downsampled` aside),
        "digest" (one file), or "picture" (looks the same, perhaps mirrored or turned). `similarity`
        is the correlation of the pictures' fine structure, NaN where one has no picture. Of many
        images with one id or one file, each is paired with the first only.
    """
    prints = a if b is None else a + b
    side = None if b is None else np.arange(len(prints)) >= len(a)
    fine = fine_structure(prints.thumbnails)
    files = _digest_codes(prints)
    found = [
        _equal(_id_codes(prints.image_ids), side, "id"),
        _equal(files, side, "digest"),
        _pictures_of_files(prints.thumbnails, fine, files, side),
    ]
    pairs = pd.concat(found, ignore_index=True).drop_duplicates(["first", "second"])
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    unknown = pairs["similarity"].isna().to_numpy() & fine.clear[first] & fine.clear[second]
    similarity = pairs["similarity"].to_numpy(copy=True)
    similarity[unknown] = _correlation(fine, first[unknown], second[unknown])
    return _table(prints.image_ids, pairs.assign(similarity=similarity))


def same_ids(a: list[str], b: list[str]) -> pd.DataFrame:
    """Pairs of one of `a` and one of `b` that have one id, as `find` gives them."""
    both = [*a, *b]
    return _table(both, _equal(_id_codes(both), np.arange(len(both)) >= len(a), "id"))


def global_id(image_id: str) -> str | None:
    """What an image is called wherever it stands, or None where its id means nothing elsewhere."""
    match = _GLOBAL_ID.fullmatch(stem(str(image_id)).lower())
    return match[1] if match else None


def _table(image_ids: list[str], pairs: pd.DataFrame) -> pd.DataFrame:
    """The result in `COLUMNS`, of pairs of positions."""
    pairs = pairs.sort_values(["first", "second"])
    ids = np.array(image_ids, dtype=object)
    columns = {
        "image_id_1": ids[pairs["first"].to_numpy()],
        "image_id_2": ids[pairs["second"].to_numpy()],
        "by": pairs["by"].to_numpy(),
        "similarity": pairs["similarity"].to_numpy().round(4),
    }
    return pd.DataFrame(columns, columns=COLUMNS)


def _id_codes(image_ids: list[str]) -> np.ndarray:
    """int (n,): equal for one image's ids, -1 where an id means nothing elsewhere."""
    return pd.factorize(np.array([global_id(item) for item in image_ids], dtype=object))[0]


def _digest_codes(prints: Fingerprints) -> np.ndarray:
    """int (n,): equal for equal files, -1 where the file is not known."""
    words = pd.DataFrame(np.ascontiguousarray(prints.digests).view(np.uint64))
    codes = words.groupby(list(words.columns), sort=False).ngroup().to_numpy()
    return np.where(prints.has_digest, codes, -1)


def _equal(codes: np.ndarray, side: np.ndarray | None, by: str) -> pd.DataFrame:
    """Pairs of the first position of each code with each other one (of the other side)."""
    known = np.flatnonzero(codes >= 0)
    order = known[np.argsort(codes[known], kind="stable")]
    is_first = np.ones(len(order), bool)
    is_first[1:] = codes[order][1:] != codes[order][:-1]
    first = order[is_first][np.cumsum(is_first) - 1]
    keep = ~is_first if side is None else side[first] != side[order]
    return _pairs(first[keep], order[keep], np.full(int(keep.sum()), np.nan), by)


def _pictures_of_files(
    thumbnails: np.ndarray, fine: FineStructure, files: np.ndarray, side: np.ndarray | None
) -> pd.DataFrame:
    """Pairs of one picture in different files.

    Of images with one file the first is compared, and what is found of it as the second of a pair
    holds for the others: a file that is there a thousand times is not compared a million times.
    """
    table = pd.DataFrame({"file": files, "side": 0 if side is None else side})
    alone = table["file"] < 0
    table.loc[alone, "file"] = -1 - np.flatnonzero(alone)
    number = table.groupby(["file", "side"], sort=False).ngroup().to_numpy()
    _, first_of = np.unique(number, return_index=True)
    pairs = _pictures(thumbnails, fine, np.sort(first_of[fine.clear[first_of]]), side)
    copies = pd.DataFrame({"number": number, "copy": np.arange(len(number))})
    pairs["number"] = number[pairs["second"].to_numpy()]
    spread = pairs.merge(copies, on="number")
    return spread.assign(second=spread["copy"]).drop(columns=["copy", "number"])


def _pictures(
    thumbnails: np.ndarray, fine: FineStructure, rows: np.ndarray, side: np.ndarray | None
) -> pd.DataFrame:
    """Pairs of `rows` whose pictures are one, in any of the eight symmetries."""
    bits = perceptual_bits(thumbnails[rows])
    hashes = pack(bits)
    found = []
    for symmetry in symmetries():
        # A quarter turn leads from one of a pair to the other and not back; the rest do both.
        both_ways = symmetry == (True, False, True)

        def allowed(i: np.ndarray, j: np.ndarray, both_ways: bool = both_ways) -> np.ndarray:
            ordered = i != j if both_ways else i < j
            return ordered if side is None else ordered & (side[rows[i]] != side[rows[j]])

        for i, j in near_pairs(pack(turned_bits(bits, symmetry)), hashes, allowed):
            similarity = _correlation(fine, rows[i], rows[j], symmetry)
            keep = similarity >= SAME_PICTURE
            low, high = np.minimum(i, j)[keep], np.maximum(i, j)[keep]
            found.append(_pairs(rows[low], rows[high], similarity[keep], "picture"))
    if not found:
        nothing = np.zeros(0, np.int64)
        return _pairs(nothing, nothing, np.zeros(0), "picture")
    best = pd.concat(found, ignore_index=True).sort_values("similarity", ascending=False)
    return best.drop_duplicates(["first", "second"])


def _correlation(
    fine: FineStructure,
    first: np.ndarray,
    second: np.ndarray,
    symmetry: tuple[bool, bool, bool] = (False, False, False),
) -> np.ndarray:
    """float64 (n,): correlation of fine structure, the first picture turned by a symmetry."""
    values = np.empty(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        one = turned(fine.codes[first[part]], symmetry).astype(np.float32)
        two = fine.codes[second[part]].astype(np.float32)
        values[part] = np.einsum("nhw,nhw->n", one, two)
    return values / (fine.lengths[first] * fine.lengths[second])


def _pairs(first: np.ndarray, second: np.ndarray, similarity: np.ndarray, by: str) -> pd.DataFrame:
    return pd.DataFrame({"first": first, "second": second, "similarity": similarity, "by": by})
