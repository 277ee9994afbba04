"""The number of digits that predictions are written with."""

import numpy as np

# As out-of-fold tables have. More would show differences between machines, not between images.
DIGITS = 7


def significant(values: np.ndarray) -> np.ndarray:
    """`values` rounded to the digits that are written, so that the columns of a row agree.

    Args:
        values: float array of any shape.

    Returns:
        float64 array of the same shape.
    """
    flat = [float(f"{value:.{DIGITS}g}") for value in np.ravel(values)]
    return np.array(flat, dtype=np.float64).reshape(np.shape(values))
