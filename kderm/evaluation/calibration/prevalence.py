"""Probabilities and predictive values at another prevalence than that of the images at hand.

A data set of a challenge holds many times more melanomas than a consulting room. Where only the
shares of the classes differ, and a class looks the same in both places, Bayes' rule says what each
number becomes. Plain arrays in and out.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from kderm.errors import UserError
from kderm.evaluation.calibration.scaling import LARGEST_SHIFT
from kderm.evaluation.metrics import SMALLEST

SUM_TOLERANCE = 1e-3
# Of the logarithm of a class's share: a factor of e either way is likely enough.
SHIFT_SD = 1.0


def to_prevalence(
    probabilities: np.ndarray, prior_from: np.ndarray, prior_to: np.ndarray
) -> np.ndarray:
    """What calibrated probabilities become where the classes have other shares.

    Source: Saerens et al. 2002, doi:10.1162/089976602753284446, eq. 2.4. Holds if the images of a
    class are alike in both places (prior shift); nothing in the images themselves can show that.

    Args:
        probabilities: float (n, k), rows sum to 1, calibrated at `prior_from`.
        prior_from: float (k,), share of each class where they were calibrated; sums to 1.
        prior_to: float (k,), share of each class where they shall hold; sums to 1.

    Returns:
        float64 (n, k), rows sum to 1.

    Raises:
        UserError: the shares are none, or a class shall appear that was absent.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    k = probabilities.shape[1]
    prior_from, prior_to = _prior(prior_from, k, "prior_from"), _prior(prior_to, k, "prior_to")
    new = np.flatnonzero((prior_from == 0) & (prior_to > 0))
    if len(new):
        raise UserError(
            "A class that was absent where the probabilities were calibrated has no probability to "
            f"correct. Received a share above 0 for classes that had 0: {new.tolist()}. Leave "
            "the share of such a class at 0."
        )
    ratio = np.divide(prior_to, prior_from, out=np.zeros(k), where=prior_from > 0)
    moved = probabilities * ratio
    total = moved.sum(axis=1, keepdims=True)
    # An image that is surely of a class that does not exist there: all others stay possible.
    return np.where(total > 0, moved / np.where(total > 0, total, 1), prior_to)


def implied_prior(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The shares of the classes that probabilities stand for, which may not be those of `y`.

    Class weights, samplers and the focal loss make a network answer as if rare classes came more
    often than they do, and a temperature, which moves no probability between classes, leaves that.
    `to_prevalence` from the shares of `y` would then land beside its aim. So this looks for the
    shares from which the way to those of `y` gives the lowest log-loss: then the mean probability
    of each class is its share, nearly. Where nothing is shifted, these are the shares of `y`.

    Source: the shift of bias-corrected temperature scaling, Alexandari et al. 2020,
    arXiv:1901.06852, read as a prior by Saerens et al. 2002, eq. 2.4. Differs: each class's shift
    is taken as drawn from a normal distribution of `SHIFT_SD` around none. That weighs as much as
    about one doubtful image, and decides only for classes that have none: those that are told apart
    so well that any shift would do.

    Args:
        probabilities: float (n, k), rows sum to 1, calibrated; of images held out from training.
        y: int (n,), index into the label space's codes.

    Returns:
        float64 (k,), sums to 1; 0 for a class without an image.
    """
    n, k = np.shape(probabilities)
    shares = np.bincount(y, minlength=k) / n
    there = np.flatnonzero(shares)
    logits = np.log(np.clip(probabilities[:, there], SMALLEST, 1))
    truth = np.equal.outer(np.asarray(y), there).astype(np.float64)

    def loss_and_slope(shift: np.ndarray) -> tuple[float, np.ndarray]:
        answers = log_softmax(logits + shift, axis=1)
        held = shift / SHIFT_SD
        loss = (held @ held) / 2 - float((answers * truth).sum())
        return loss / n, (np.exp(answers) - truth).mean(axis=0) + held / SHIFT_SD / n

    bounds = [(-LARGEST_SHIFT, LARGEST_SHIFT)] * len(there)
    start = np.zeros(len(there))
    from scipy.optimize import minimize  # slow to import, and seldom needed

    found = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds)
    prior = np.zeros(k)
    prior[there] = shares[there] * np.exp(-found.x)
    return prior / prior.sum()


def stated_prior(prior: np.ndarray, stated: Sequence[tuple[Sequence[int], float]]) -> np.ndarray:
    """`prior` with sets of classes scaled to the shares that are stated, the others to the rest.

    For a stated prevalence of melanoma, of malignant lesions or of several classes: all proportions
    within a set, and among the classes that nothing is said of, stay as they are.

    Args:
        prior: float (k,), sums to 1.
        stated: sets of classes without a class in common, and the share of each, in (0, 1).

    Returns:
        float64 (k,), sums to 1.

    Raises:
        UserError: a share is not in (0, 1), they leave less than nothing to the rest, or there is
            no image to start from.
    """
    prior = _prior(prior, len(prior), "prior")
    result, rest = np.zeros(len(prior)), np.ones(len(prior), dtype=bool)
    for indices, share in stated:
        inside = np.isin(np.arange(len(prior)), indices)
        if not 0 < share < 1 or not prior[inside].sum() > 0:
            raise UserError(
                "A prevalence lies between 0 and 1, and needs images of its classes to start from. "
                f"Received: {share}, with {prior[inside].sum():.3g} of the images."
            )
        result[inside] = prior[inside] * share / prior[inside].sum()
        rest &= ~inside
    left = 1 - result.sum()
    if prior[rest].sum() > 0 and left > 0:
        result[rest] = prior[rest] * left / prior[rest].sum()
    elif prior[rest].sum() > 0 or abs(left) > SUM_TOLERANCE:
        raise UserError(
            "The shares of the classes add up to 1, those that nothing is said of included. "
            f"Received: shares that add up to {1 - left:.4g}, and images of other classes that "
            f"are {prior[rest].sum():.3g} of all."
        )
    return result / result.sum()


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> tuple[float, float]:
    """Positive and negative predictive value at `prevalence`; NaN where nothing is (un)flagged.

    Bayes' rule; sensitivity and specificity are taken to hold at every prevalence.
    """
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    missed, cleared = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    positive = true / (true + false) if true + false > 0 else np.nan
    negative = cleared / (cleared + missed) if cleared + missed > 0 else np.nan
    return float(positive), float(negative)


def _prior(prior: np.ndarray, k: int, name: str) -> np.ndarray:
    prior = np.asarray(prior, dtype=np.float64)
    usable = prior.shape == (k,) and np.isfinite(prior).all() and (prior >= 0).all()
    if not usable or abs(prior.sum() - 1) > SUM_TOLERANCE:
        raise UserError(
            f"{name} must hold the share of each of the {k} classes, not negative, adding up to 1. "
            f"Received: {prior.tolist()}."
        )
    return prior / prior.sum()
