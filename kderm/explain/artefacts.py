"""How much of a map lies where no diagnosis is: outside the lesion, in dark corners, on marks.

Shares of a map's positive evidence, and the flags that follow from them. A flag is a reason to look
at the picture, not a finding: the places come from simple means (`kderm.explain.lesion`).
"""

import numpy as np
from PIL import Image

from kderm.explain.lesion import Places

# Column of a share -> (from which share it is flagged, and from how many times the place's share of
# the area, what is said then). The second keeps a hairy picture from being flagged for its hairs.
# Outside of the lesion half of the evidence is too much however large the rest of the picture is,
# and black corners should hold none. In 200 held-out images of HAM10000 the shares on marks and in
# corners had 95th percentiles of 0.01 and 0.00, along the border of 0.19.
FLAGS = {
    "outside_lesion": (0.5, 0.0, "most evidence outside the lesion"),
    "dark_corners": (0.05, 0.0, "evidence in the dark corners"),
    "marks": (0.05, 2.0, "evidence on thin dark marks (ruler, hair)"),
    "border": (0.45, 1.5, "much evidence along the border"),
}
SHARES = tuple(FLAGS)


def energy_shares(
    evidence: np.ndarray, places: Places, seen: np.ndarray
) -> dict[str, float | str | None]:
    """Shares of a map's energy by place, and its flags.

    Args:
        evidence: float (H', W'), a signed map of the frame; what is below zero counts as nothing.
        places: masks of the frame, at any resolution.
        seen: bool (H', W'), where the network looked.

    Returns:
        for each of `SHARES` the share of the evidence there, in [0, 1], None where it is undefined
        (no evidence for the class at all; no lesion found), and "flags": what stands out, joined by
        "; ".
    """
    positive = np.where(seen, np.maximum(evidence, 0.0), 0.0)
    total = positive.sum()
    masks = {
        "outside_lesion": None if places.lesion is None else ~places.lesion,
        "dark_corners": places.corners,
        "marks": places.marks,
        "border": places.border,
    }
    found: dict[str, float | str | None] = {}
    flags = []
    for name, mask in masks.items():
        found[name] = None
        if mask is None or total <= 0:
            continue
        there = coverage(mask, evidence.shape)
        share = float((positive * there).sum() / total)
        area = float(there[seen].mean())
        found[name] = share
        least_share, least_lift, words = FLAGS[name]
        if share >= max(least_share, least_lift * area):
            flags.append(words)
    return found | {"flags": "; ".join(flags)}


def coverage(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The share of each cell of a grid (H', W') that a mask (H, W) covers, float64."""
    picture = Image.fromarray(mask.astype(np.float32))
    covered = picture.resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(covered, np.float64)


def enlarged_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask (H', W') at another resolution (H, W), bool."""
    return coverage(mask, shape) >= 0.5
