"""When further views of an image cannot matter any more. Numpy only.

Looks at one image at a time, so an image's answer depends on no other.
"""

import numpy as np

# A few passes that agree by chance must not look like certainty, so each variance is mixed with
# what is usual for a probability p, USUAL·p(1 - p), which counts as so many passes. Both are from
# the views of held-out HAM10000 images, where they took the largest error of half the passes from
# 0.44 to under 0.2 (benchmarks/README.md).
USUAL = 0.03
USUAL_COUNTS = 3
# Images that leave after one or two views are ranked against those that got all, and the mean of
# two views lies further out than that of eight: on the run's 10,015 held-out images two passes at
# the least cost 0.0011 of macro AUC for a saving of 1.67, four cost 0.0006 for 1.75.
FEWEST_PASSES = 4


def can_leave(members: int, views: int) -> bool:
    """Whether any image can leave before its last view: it needs `FEWEST_PASSES` before that."""
    return members * (views - 1) >= FEWEST_PASSES


def settled(
    answers: np.ndarray, malignant: tuple[int, ...], tolerance: float, left: float
) -> np.ndarray:
    """Whether the mean answer is known well enough.

    The passes so far are taken for a sample of all passes that could be made. An image is settled
    when the standard error of every class's probability, and of the probability of malignancy, is
    at most `tolerance`. Members differ more than views do, so that with several members the error
    of what further views would change is overstated.

    Args:
        answers: float (n, m, r, k), m members' answers to r views, rows sum to 1.
        malignant: positions of the malignant classes among k.
        tolerance: of the standard errors, on the scale of probabilities.
        left: share of all passes that is still to be made; of none left the error is 0 (sampling
            without replacement).

    Returns:
        bool (n,); False for images with fewer than `FEWEST_PASSES` passes.
    """
    n, members, rounds, classes = answers.shape
    passes = answers.reshape(n, members * rounds, classes).astype(np.float64)
    count = passes.shape[1]
    if count < FEWEST_PASSES:
        return np.zeros(n, dtype=bool)
    of_malignant = passes[..., list(malignant)].sum(axis=2, keepdims=True)
    passes = np.concatenate([passes, of_malignant], axis=2)
    mean = passes.mean(axis=1)
    squares = ((passes - mean[:, None]) ** 2).sum(axis=1)
    usual = USUAL * np.clip(mean * (1 - mean), 0, None)
    variance = (squares + USUAL_COUNTS * usual) / (count - 1 + USUAL_COUNTS)
    return (np.sqrt(variance * left / count) <= tolerance).all(axis=1)
