"""When further views of an image cannot matter any more. Numpy only.

Looks at one image at a time, so an image's answer depends on no other.
"""

import numpy as np


def settled(
    answers: np.ndarray, malignant: tuple[int, ...], tolerance: float, left: float
) -> np.ndarray:
    """Whether the mean answer is known well enough.

    The passes so far are taken for a sample of all passes that could be made. An image is settled
    when the standard errors of the probability of the class that leads and of the probability of
    malignancy are both at most `tolerance`. Passes of one member are alike, and members differ more
    than views do, so the standard error of what further views would change is overstated.

    Args:
        answers: float (n, m, r, k), m members' answers to r views, rows sum to 1.
        malignant: positions of the malignant classes among k.
        tolerance: of the standard errors, on the scale of probabilities.
        left: share of all passes that is still to be made; of none left the error is 0 (sampling
            without replacement).

    Returns:
        bool (n,); False for images with one pass alone.
    """
    n, members, rounds, classes = answers.shape
    passes = answers.reshape(n, members * rounds, classes).astype(np.float64)
    if passes.shape[1] < 2:
        return np.zeros(n, dtype=bool)
    leading = passes.mean(axis=1).argmax(axis=1)
    of_leading = np.take_along_axis(passes, leading[:, None, None], axis=2)[..., 0]
    of_malignant = passes[..., list(malignant)].sum(axis=2)
    spread = np.stack([of_leading, of_malignant]).std(axis=2, ddof=1)  # (2, n)
    error = spread * np.sqrt(left / passes.shape[1])
    return (error <= tolerance).all(axis=0)
