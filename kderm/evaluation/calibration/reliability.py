"""Calibration measured: does a confidence of 0.8 mean right in eight of ten?

Takes plain arrays, returns plain numbers. `kderm.evaluation.calibration.report` puts intervals
around them and the figures draw them; `scaling` is what is done about them. No Keras, no tables.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

BINS = 15
Kind = Literal["width", "mass"]


@dataclass(frozen=True)
class ReliabilityBins:
    """Bins of a confidence; empty bins hold NaN means.

    Attributes:
        edges: float (bins + 1,), ascending; from 0 to 1 for equal-width bins.
        position: int (n,), the bin of each image.
        count: int (bins,), images a bin.
        confidence: float (bins,), mean confidence in a bin.
        frequency: float (bins,), share of a bin's images where the event came true.
    """

    edges: np.ndarray
    position: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    frequency: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean distance of confidence and frequency, bins weighted by their counts."""
        used = self.count > 0
        gap = np.abs(self.confidence[used] - self.frequency[used])
        return float(np.average(gap, weights=self.count[used]))

    @property
    def largest_error(self) -> float:
        """The largest distance of confidence and frequency in a bin that has images."""
        used = self.count > 0
        return float(np.abs(self.confidence[used] - self.frequency[used]).max())


def reliability_bins(
    event: np.ndarray, confidence: np.ndarray, bins: int = BINS, kind: Kind = "width"
) -> ReliabilityBins:
    """Bin `confidence` and compare with how often the event came true.

    A bin holds its lower edge, the last one both edges. Bins of equal mass are cut at quantiles of
    the confidence; equal confidences are never parted, so with ties there are fewer bins than asked
    for and their counts differ (all confidences equal: one bin).

    Args:
        event: bool (n,), whether the event came true; n >= 1.
        confidence: float (n,) in [0, 1], the probability given to it.
        bins: number of bins, for equal mass at most.
        kind: "width" for bins as wide as each other, "mass" for bins as full as each other.
    """
    confidence = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    event = np.asarray(event, dtype=np.float64)
    if kind == "width":
        edges = np.linspace(0, 1, bins + 1)
        position = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    else:
        # Edges are confidences that occur, so that equal ones fall into one bin by construction.
        starts = np.quantile(confidence, np.arange(bins) / bins, method="lower")
        edges = np.append(np.unique(starts), confidence.max())
        position = np.searchsorted(edges[1:-1], confidence, side="right")
    count = np.bincount(position, minlength=len(edges) - 1)
    divisor = np.where(count > 0, count, np.nan)
    return ReliabilityBins(
        edges=edges,
        position=position,
        count=count,
        confidence=np.bincount(position, weights=confidence, minlength=len(count)) / divisor,
        frequency=np.bincount(position, weights=event, minlength=len(count)) / divisor,
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


def expected_calibration_error(
    y: np.ndarray, probabilities: np.ndarray, bins: int = BINS, kind: Kind = "width"
) -> float:
    """Top-label ECE in [0, 1].

    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3 (equal width); with equal mass Nguyen and
    O'Connor 2015, arXiv:1508.05154.
    """
    return reliability_bins(*top_label(y, probabilities), bins, kind).expected_error


def classwise_calibration_error(
    y: np.ndarray, probabilities: np.ndarray, bins: int = BINS, kind: Kind = "width"
) -> float:
    """Mean over all classes of the calibration error of each class against the rest, in [0, 1].

    Source: Nixon et al. 2019, arXiv:1904.01685, the static (equal width) and the adaptive (equal
    mass) calibration error. Differs: bins that ties leave are weighted by their counts.
    """
    errors = [
        reliability_bins(y == j, probabilities[:, j], bins, kind).expected_error
        for j in range(probabilities.shape[1])
    ]
    return float(np.mean(errors))


@dataclass(frozen=True)
class BrierParts:
    """A Brier score and what it is made of.

    brier = reliability - resolution + uncertainty + within_bins, exactly.

    Attributes:
        brier: mean squared distance of probability and event, in [0, 1].
        reliability: squared distance of confidence and frequency, bins weighted by counts; 0 best.
        resolution: how far the bins' frequencies lie from the overall one; high is good.
        uncertainty: overall frequency times its complement, which no model can change.
        within_bins: what binning hides: variance of the confidences within their bins, less twice
            their covariance with the event. 0 if all confidences of a bin are equal, as in Murphy's
            own case.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_decomposition(
    event: np.ndarray, confidence: np.ndarray, bins: int = BINS, kind: Kind = "width"
) -> BrierParts:
    """Murphy's decomposition of the Brier score of an event, with the two within-bin terms.

    Source: Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2; within bins Stephenson
    et al. 2008, doi:10.1175/2007WAF2006116.1, eq. 4, both terms added up.

    Args:
        event: bool (n,), n >= 1.
        confidence: float (n,) in [0, 1].
        bins: number of bins.
        kind: see `reliability_bins`.
    """
    event = np.asarray(event, dtype=np.float64)
    confidence = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    found = reliability_bins(event, confidence, bins, kind)
    share, base = found.count / len(event), float(event.mean())
    used = found.count > 0
    from_bin = confidence - found.confidence[found.position]
    within = from_bin**2 - 2 * from_bin * (event - found.frequency[found.position])
    gap = (found.confidence - found.frequency)[used]
    return BrierParts(
        brier=float(np.mean((confidence - event) ** 2)),
        reliability=float(share[used] @ gap**2),
        resolution=float(share[used] @ (found.frequency[used] - base) ** 2),
        uncertainty=base * (1 - base),
        within_bins=float(within.mean()),
    )


def multiclass_brier_decomposition(
    y: np.ndarray, probabilities: np.ndarray, bins: int = BINS, kind: Kind = "width"
) -> BrierParts:
    """The parts of the Brier score over all classes (0 to 2): each class against the rest, summed.

    Args:
        y: int (n,), index into the label space's codes.
        probabilities: float (n, k), rows sum to 1.
        bins: number of bins.
        kind: see `reliability_bins`.
    """
    parts = [
        brier_decomposition(y == j, probabilities[:, j], bins, kind)
        for j in range(probabilities.shape[1])
    ]
    names = BrierParts.__dataclass_fields__
    return BrierParts(**{name: sum(getattr(part, name) for part in parts) for name in names})


def error_if_calibrated(
    found: ReliabilityBins, confidence: np.ndarray, *, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """The calibration error that the same confidences would show if each of them were true.

    With few images a bin, a perfectly calibrated model has an error too. Events are drawn from the
    confidences themselves, image by image (images of one lesion are in truth more alike, so the
    true value is a little higher).
    Source: the consistency resampling of Broecker and Smith 2007, doi:10.1175/WAF993.1.

    Args:
        found: bins of `confidence`.
        confidence: float (n,) in [0, 1].
        draws: how often events are drawn.
        seed: seed of the draws.

    Returns:
        The mean error and its 95th percentile over the draws.
    """
    random = np.random.default_rng(seed)
    confidence = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
    order = np.argsort(found.position, kind="stable")
    used = np.flatnonzero(found.count)
    starts = np.searchsorted(found.position[order], used)
    expected, ordered = found.confidence[used] * found.count[used], confidence[order]
    errors = [
        np.abs(
            np.add.reduceat(random.random(len(ordered)) < ordered, starts, dtype=np.int64)
            - expected
        ).sum()
        for _ in range(draws)
    ]
    errors = np.array(errors) / len(confidence)
    return float(errors.mean()), float(np.quantile(errors, 0.95))
