"""Class weights, from the labels of the training folds only.

They reach the loss as sample weights, because Keras takes class and sample weights only one at a
time and refuses class weights for some inputs.
"""

import numpy as np


def class_weights(
    labels: np.ndarray, classes: int, scheme: str, *, effective_beta: float = 0.999
) -> np.ndarray:
    """One weight per class, scaled so that the mean over the training images is 1.

    Args:
        labels: int array (n,), class indices of the training images.
        classes: number of classes k.
        scheme: "none" (all 1), "balanced" (1 / count), "sqrt" (1 / sqrt(count)) or "effective"
            ((1 - beta) / (1 - beta^count), Cui et al. 2019, arXiv:1901.05555, eq. 2).
        effective_beta: beta of "effective", in (0, 1).

    Returns:
        float32 array (k,). A class without images gets 0: no image can carry its weight.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(classes)
    if scheme == "none":
        weights[present] = 1.0
    elif scheme == "balanced":
        weights[present] = 1.0 / counts[present]
    elif scheme == "sqrt":
        weights[present] = 1.0 / np.sqrt(counts[present])
    elif scheme == "effective":
        weights[present] = (1 - effective_beta) / (1 - effective_beta ** counts[present])
    else:
        raise ValueError(f"scheme must be none, balanced, sqrt or effective. Received: {scheme!r}")
    return (weights * counts.sum() / (weights @ counts)).astype(np.float32)
