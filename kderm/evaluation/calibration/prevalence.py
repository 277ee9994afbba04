"""Probabilities and predictive values at another prevalence than that of the images at hand.

A data set of a challenge holds many times more melanomas than a consulting room. Where only the
shares of the classes differ, and a class looks the same in both places, Bayes' rule says what each
number becomes. Plain arrays in and out.
"""

import numpy as np

from kderm.errors import UserError

SUM_TOLERANCE = 1e-3


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
            f"correct. Received a share above 0 for class(es) {new.tolist()}, which had 0. Leave "
            "the share of such a class at 0."
        )
    ratio = np.divide(prior_to, prior_from, out=np.zeros(k), where=prior_from > 0)
    moved = probabilities * ratio
    total = moved.sum(axis=1, keepdims=True)
    # An image that is surely of a class that does not exist there: all others stay possible.
    return np.where(total > 0, moved / np.where(total > 0, total, 1), prior_to)


def event_prior(prior: np.ndarray, indices: list[int], share: float) -> np.ndarray:
    """`prior` with the classes `indices` scaled to add up to `share`, and the others to the rest.

    For a stated prevalence of melanoma or of malignant lesions, with all proportions within either
    side left as they are.

    Args:
        prior: float (k,), sums to 1.
        indices: the classes that count as the event.
        share: their share in the place meant, in (0, 1).

    Raises:
        UserError: the share is not in (0, 1), or either side has no image.
    """
    prior = _prior(prior, len(prior), "prior")
    event = np.isin(np.arange(len(prior)), indices)
    if not 0 < share < 1 or not 0 < prior[event].sum() < 1:
        raise UserError(
            "A prevalence lies between 0 and 1, and needs images of both sides to start from. "
            f"Received: {share}, with {prior[event].sum():.3g} of the images positive."
        )
    return np.where(
        event, prior * share / prior[event].sum(), prior * (1 - share) / prior[~event].sum()
    )


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
