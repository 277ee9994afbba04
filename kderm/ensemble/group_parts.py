"""Parts of whole groups, for estimates that choose on some images and score on others."""

import numpy as np


def group_parts(groups: np.ndarray, most: int = 5) -> np.ndarray:
    """int (n,): a part from 0 for each image; a lesion or patient is never in two parts.

    The same groups always give the same parts.

    Args:
        groups: (n,), the group of each image.
        most: the number of parts, fewer where there are fewer groups.
    """
    names, number = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[number] % min(most, len(names))


def some_groups(groups: np.ndarray, images: int, seed: int = 0) -> np.ndarray:
    """bool (n,): whole groups drawn at random until at least `images` images are in.

    Args:
        groups: (n,), the group of each image.
        images: how many images are wanted; all are given where there are no more.
        seed: of the draw.
    """
    names, number = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(number)[order]
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.isin(number, order[before < images])
