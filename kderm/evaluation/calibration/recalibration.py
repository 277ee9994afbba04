"""The recalibration line: by how much do log-odds have to be stretched and shifted to be true?

Two numbers that a clinical reader knows, weak calibration in the terms of Van Calster et al. 2019,
doi:10.1186/s12916-019-1466-7. Plain arrays in, plain numbers out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from kderm.evaluation.metrics import SMALLEST

STEPS = 50
# A line this steep tells the events apart by itself; its maximum likelihood lies at infinity.
STEEPEST = 100.0
LEVEL = 0.95


@dataclass(frozen=True)
class Recalibration:
    """logit(true probability) = intercept + slope * logit(given probability).

    Attributes:
        intercept: value, low and high; 0 if calibrated, below 0 if given too high (at even odds).
        slope: value, low and high; 1 if calibrated, below 1 if given too extreme.
    """

    intercept: tuple[float, float, float]
    slope: tuple[float, float, float]


def recalibration(
    event: np.ndarray, confidence: np.ndarray, groups: np.ndarray
) -> Recalibration | None:
    """Logistic regression of the event on the log-odds given to it, by maximum likelihood.

    Source: Cox 1958, doi:10.1093/biomet/45.3-4.562. Intervals are Wald's with the variance of
    Liang and Zeger 1986, doi:10.1093/biomet/73.1.13, over groups, with their factor g / (g - 1).

    Args:
        event: bool (n,), whether it came true.
        confidence: float (n,) in [0, 1].
        groups: (n,), the group of each image; with fewer than two of them the ends are NaN.

    Returns:
        None where there is no such line: one side only, equal confidences, or confidences that tell
        the events apart without an error.
    """
    event = np.asarray(event, dtype=np.float64)
    given = np.clip(np.asarray(confidence, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    log_odds = np.log(given) - np.log1p(-given)
    if event.min() == event.max() or np.ptp(log_odds) == 0 or not _overlap(event, log_odds):
        return None
    design = np.stack([np.ones_like(log_odds), log_odds], axis=1)
    line = _fitted(design, event)
    if line is None:
        return None
    fitted = expit(design @ line)
    spread = np.linalg.inv((design * (fitted * (1 - fitted))[:, None]).T @ design)
    _, membership = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    scores = design * (event - fitted)[:, None]
    per_group = np.stack([np.bincount(membership, weights=column) for column in scores.T], axis=1)
    count = len(per_group)
    if count < 2:
        ends = np.full(2, np.nan)
    else:
        variance = spread @ (per_group.T @ per_group) @ spread * count / (count - 1)
        ends = norm.ppf((1 + LEVEL) / 2) * np.sqrt(np.diag(variance))
    (intercept, slope), (wide, wider) = line.tolist(), ends.tolist()
    return Recalibration(
        intercept=(intercept, intercept - wide, intercept + wide),
        slope=(slope, slope - wider, slope + wider),
    )


def _overlap(event: np.ndarray, log_odds: np.ndarray) -> bool:
    """Whether both sides lie above the other somewhere: else the likelihood has no maximum.

    Source: Albert and Anderson 1984, doi:10.1093/biomet/71.1.1 (complete and quasi-complete
    separation), for one covariate.
    """
    came, stayed = log_odds[event == 1], log_odds[event == 0]
    return bool(came.max() > stayed.min() and stayed.max() > came.min())


def _fitted(design: np.ndarray, event: np.ndarray) -> np.ndarray | None:
    """Newton's method with halved steps; None if the line runs off to infinity."""
    line = np.zeros(2)
    loss = _loss(design, event, line)
    for _ in range(STEPS):
        fitted = expit(design @ line)
        slope = design.T @ (event - fitted)
        curvature = (design * (fitted * (1 - fitted))[:, None]).T @ design
        try:
            step = np.linalg.solve(curvature, slope)
        except np.linalg.LinAlgError:
            return None
        while (better := _loss(design, event, line + step)) > loss and np.abs(step).max() > 1e-12:
            step = step / 2
        line, before, loss = line + step, loss, better
        if np.abs(line).max() > STEEPEST:
            return None
        if np.abs(step).max() < 1e-10 or before - loss < 1e-14 * abs(before):
            return line
    return None


def _loss(design: np.ndarray, event: np.ndarray, line: np.ndarray) -> float:
    score = design @ line
    return float(np.sum(np.logaddexp(0, score) - event * score))
