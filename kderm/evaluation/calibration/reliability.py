"""Calibration: does a confidence of 0.8 mean right in eight of ten?

Takes plain arrays, returns plain numbers; the report and the reliability figure read them.
"""

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """Equal-width bins of a confidence; empty bins hold NaN means.

    Attributes:
        edges: float (bins + 1,), from 0 to 1.
        count: int (bins,), images a bin.
        confidence: float (bins,), mean confidence in a bin.
        frequency: float (bins,), share of a bin's images where the event came true.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean distance of confidence and frequency, bins weighted by their counts."""
        used = self.count > 0
        gap = np.abs(self.confidence[used] - self.frequency[used])
        return float(np.average(gap, weights=self.count[used]))


def reliability_bins(
    event: np.ndarray, confidence: np.ndarray, bins: int = BINS
) -> ReliabilityBins:
    """Bin `confidence` and compare with how often the event came true.

    Args:
        event: bool (n,), whether the event came true; n >= 1.
        confidence: float (n,) in [0, 1], the probability given to it.
        bins: number of bins; a bin holds its lower edge, the last one both edges.
    """
    confidence = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    event = np.asarray(event, dtype=np.float64)
    position = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(position, minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return ReliabilityBins(
        edges=np.linspace(0, 1, bins + 1),
        count=count,
        confidence=np.bincount(position, weights=confidence, minlength=bins) / divisor,
        frequency=np.bincount(position, weights=event, minlength=bins) / divisor,
    )


def top_label(y: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the top class is right, and its probability: bool (n,) and float (n,).

    A tie goes to the first of the tied classes here, so that a uniform guess over k classes that
    is right once in k is called calibrated.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1.
    """
    return np.argmax(probabilities, axis=1) == y, np.max(probabilities, axis=1)


def expected_calibration_error(y: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Top-label ECE in [0, 1] over equal-width bins.

    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    return reliability_bins(*top_label(y, probabilities), bins).expected_error
