"""One member's answers to several views become one. Numpy only.

Shared by training, for the out-of-fold table, and by the ensemble: the threshold that is fitted on
that table holds for predictions only if both average alike.
"""

from typing import Literal, get_args

import numpy as np

from kderm.errors import unknown_name

How = Literal["probability", "logit", "oof"]

# Keeps the logarithm finite where float32 softmax has underflowed to zero.
SMALLEST_PROBABILITY = 1e-7


def average_views(probabilities: np.ndarray, how: How) -> np.ndarray:
    """Each member's own answer, averaged over its views.

    Args:
        probabilities: float array (..., v, k), rows over k sum to 1.
        how: "logit" takes the normalised geometric mean, the others the arithmetic mean.

    Returns:
        float64 array (..., k), rows sum to 1.
    """
    check_how(how)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return geometric_mean(probabilities, -2) if how == "logit" else probabilities.mean(axis=-2)


def geometric_mean(probabilities: np.ndarray, axis: int) -> np.ndarray:
    """The softmax of the mean log-probability: the normalised geometric mean.

    Args:
        probabilities: float array (..., k), rows over k sum to 1.
        axis: the axis to average over, not the last one.

    Returns:
        float64 array without that axis, rows sum to 1.
    """
    logs = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)).mean(axis=axis)
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_how(how: str) -> None:
    """Refuse an unknown way of combining, naming the nearest known one."""
    if how not in get_args(How):
        raise unknown_name("way of combining", how, get_args(How))
