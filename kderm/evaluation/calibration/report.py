"""All numbers about calibration for the report, with intervals, as plain data.

Reads a `Predictions` table. What is measured is in `reliability` and `recalibration`, what is
fitted in `scaling`.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from scipy import sparse

from kderm.evaluation.calibration.recalibration import recalibration
from kderm.evaluation.calibration.reliability import (
    BINS,
    Kind,
    ReliabilityBins,
    classwise_calibration_error,
    error_if_calibrated,
    expected_calibration_error,
    multiclass_brier_decomposition,
    reliability_bins,
    top_label,
)
from kderm.evaluation.calibration.scaling import FITS, fit_scaling, nested_calibration
from kderm.evaluation.decisions.operating_points import targets_of
from kderm.evaluation.decisions.tally import (
    Estimate,
    estimate,
    estimates,
    indicator,
    ratio,
    tally,
    with_exact_ends,
)
from kderm.evaluation.intervals import RESAMPLES, groups_among
from kderm.evaluation.measure import without_nan
from kderm.evaluation.metrics import image_brier, image_log_loss
from kderm.evaluation.predictions import Predictions

ECE_NOTE = (
    "A calibration error adds up distances, so noise makes it larger, in the images and again in "
    "every resample: the value is too high on average. Where calibrated groups would show as much "
    "by chance, its interval goes from 0 to the resampled end; else it is the resampled interval "
    "mirrored at the value, which takes that off."
)
KINDS: tuple[Kind, ...] = ("width", "mass")


def calibration_report(predictions: Predictions, *, resamples: int = RESAMPLES) -> dict:
    """How far the probabilities can be taken at their word, and what scaling would change.

    Args:
        predictions: labelled predictions; an out-of-fold table also gets its scaling tried.
        resamples: bootstrap resamples of whole groups.

    Returns:
        {
            "bins": how many were asked for,
            "ece_note": how calibration errors and their intervals are to be read,
            "top_label": as `event_report`, of "the top class is right",
            "classes": {code: as `event_report`, of "it is this class"},
            "classwise_ece", "classwise_ece_mass": mean of the classes' calibration errors,
            "brier_parts": {"width" and "mass": {"brier", "reliability", "resolution",
                "uncertainty", "within_bins"}}, over all classes (0 to 2); see `BrierParts`,
            "targets": {"malignant" and "mel", as far as the label space has them: as
                `event_report`},
            "scaling": None without two folds or more, else {"raw", "temperature" and "vector":
                {"log_loss", "brier", "ece", "classwise_ece"}, the last two with nested fits, and
                their "difference" to raw: {"log_loss", "brier"}, estimates of pairs, and their
                "fitted": {"kind", "sharpness", "shift", "temperature", "at_bound"} on all folds},
        }
        Estimates are {"value", "low", "high"}; None where undefined.
    """
    y, probabilities, labels = predictions.y, predictions.probabilities, predictions.labels
    events = {"top": top_label(y, probabilities)}
    events |= {
        f"class {code}": (y == j, probabilities[:, j]) for j, code in enumerate(labels.codes)
    }
    targets = targets_of(labels)
    events |= {
        f"target {target.name}": (target.truth(y), target.score(probabilities))
        for target in targets
    }
    found = event_reports(events, predictions.groups, resamples=resamples)
    classes = {code: found[f"class {code}"] for code in labels.codes}
    result = {
        "bins": BINS,
        "ece_note": ECE_NOTE,
        "top_label": found["top"],
        "classes": classes,
        "classwise_ece": _mean(one["ece"]["value"] for one in classes.values()),
        "classwise_ece_mass": _mean(one["ece_mass"]["value"] for one in classes.values()),
        "brier_parts": {
            kind: vars(multiclass_brier_decomposition(y, probabilities, kind=kind))
            for kind in KINDS
        },
        "targets": {target.name: found[f"target {target.name}"] for target in targets},
        "scaling": _scaling(predictions, resamples),
    }
    return without_nan(result)


def event_report(
    event: np.ndarray, confidence: np.ndarray, groups: np.ndarray, *, resamples: int = RESAMPLES
) -> dict:
    """Calibration of one probability.

    Args:
        event: bool (n,), whether it came true.
        confidence: float (n,), the probability given to it.
        groups: (n,), the group of each image.
        resamples: bootstrap resamples of whole groups.

    Returns:
        {
            "n": images, "n_events": those where it came true,
            "mean_confidence", "frequency", "gap" (confidence less frequency: above 0 too sure):
                estimates,
            "ece", "ece_mass": estimates of the calibration error in bins of equal width and mass;
                see `ECE_NOTE` for their intervals,
            "ece_if_calibrated", "ece_mass_if_calibrated": {"mean", "high"}, what a model with these
                very confidences would show by chance alone, high its 95th percentile, were each
                image by itself,
            "ece_by_chance", "ece_mass_by_chance": the largest error to be expected of a calibrated
                model, by resampling the groups (97.5th percentile): up to it, an error's interval
                begins at 0,
            "largest_error": the largest gap of a bin of equal mass,
            "intercept", "slope": estimates of the recalibration line on the log-odds (0 and 1 are
                calibrated; slope below 1 too extreme); None where it does not exist,
            "curve": {"width" and "mass": [{"low_edge", "high_edge", "n", "confidence", "frequency":
                an estimate}, ...]}, bins that have images only,
        }
    """
    return event_reports({"event": (event, confidence)}, groups, resamples=resamples)["event"]


def event_reports(
    events: Mapping[str, tuple[np.ndarray, np.ndarray]], groups: np.ndarray, *, resamples: int
) -> dict[str, dict]:
    """`event_report` of several events by name, over the same resamples.

    Args:
        events: name to whether it came true, bool (n,), and the probability given, float (n,).
        groups: (n,), the group of each image.
        resamples: bootstrap resamples of whole groups.
    """
    tallies = {
        name: _EventTally(np.asarray(event, dtype=bool), confidence)
        for name, (event, confidence) in events.items()
    }

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            f"{event}/{name}": value
            for event, counted in tallies.items()
            for name, value in counted(weights).items()
        }

    found = estimates(statistic, groups, resamples)
    return {
        event: _described(
            counted,
            {name: found[f"{event}/{name}"] for name in counted.names},
            groups,
        )
        for event, counted in tallies.items()
    }


class _EventTally:
    """Weighted means, calibration errors and the frequency of every bin of one event.

    Args:
        event: bool (n,).
        confidence: float (n,).
    """

    def __init__(self, event: np.ndarray, confidence: np.ndarray) -> None:
        self.event = event
        self.confidence = np.clip(np.asarray(confidence, dtype=np.float64), 0, 1)
        self.bins = {kind: reliability_bins(event, self.confidence, kind=kind) for kind in KINDS}
        self._means = sparse.csr_array(np.stack([self.confidence, event.astype(np.float64)]))
        cells = {
            kind: indicator(bins.position, len(bins.count)) for kind, bins in self.bins.items()
        }
        self._images = cells
        self._events = {kind: (part * event).tocsr() for kind, part in cells.items()}
        self._excess = {
            kind: (part * (event - self.confidence)).tocsr() for kind, part in cells.items()
        }
        self._excess_at_hand = {kind: part.mean(axis=1) for kind, part in self._excess.items()}

    @property
    def names(self) -> list[str]:
        """What a call returns."""
        return list(self(np.ones((1, len(self.event)))))

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays (b,) by name, for weights (b, n)."""
        total = weights.sum(axis=1)
        stated, came_true = tally(self._means, weights) / total
        result = {"mean_confidence": stated, "frequency": came_true, "gap": stated - came_true}
        for kind in KINDS:
            excess = tally(self._excess[kind], weights)
            result[f"ece/{kind}"] = np.abs(excess).sum(axis=0) / total
            # What the resampling moves, bin by bin: the error of a calibrated model, by chance.
            moved = excess / total - self._excess_at_hand[kind][:, None]
            result[f"chance/{kind}"] = np.abs(moved).sum(axis=0)
            frequency = ratio(
                tally(self._events[kind], weights), tally(self._images[kind], weights)
            )
            result |= {f"{kind}/{j}": frequency[j] for j in range(len(frequency))}
        return result


def _described(counted: _EventTally, numbers: dict[str, Estimate], groups: np.ndarray) -> dict:
    """What `event_report` returns, of one event and its estimates."""
    event, confidence, bins = counted.event, counted.confidence, counted.bins
    chance = {kind: error_if_calibrated(bins[kind], confidence) for kind in KINDS}
    line = recalibration(event, confidence, groups)
    return {
        "n": len(event),
        "n_events": int(event.sum()),
        **{name: numbers[name] for name in ("mean_confidence", "frequency", "gap")},
        "ece": _error(numbers["ece/width"], numbers["chance/width"]),
        "ece_mass": _error(numbers["ece/mass"], numbers["chance/mass"]),
        "ece_if_calibrated": dict(zip(("mean", "high"), chance["width"], strict=True)),
        "ece_mass_if_calibrated": dict(zip(("mean", "high"), chance["mass"], strict=True)),
        "ece_by_chance": numbers["chance/width"]["high"],
        "ece_mass_by_chance": numbers["chance/mass"]["high"],
        "largest_error": bins["mass"].largest_error,
        "intercept": None if line is None else estimate(*line.intercept),
        "slope": None if line is None else estimate(*line.slope),
        "curve": {kind: _curve(bins[kind], kind, numbers, groups) for kind in KINDS},
    }


def _error(found: Estimate, chance: Estimate) -> Estimate:
    """A calibration error with the interval that `ECE_NOTE` tells of.

    Mirrored, the basic bootstrap of Davison and Hinkley 1997, ch. 5.2. By itself it leaves out zero
    for every second model that is calibrated, and percentiles do for all of them: the error has a
    corner there, which no bootstrap sees. So zero is tested by itself. In simulations (300 to 2,000
    images in pairs, either kind of bins, errors of 0 to 0.1) the two together hold the true error
    in 88 to 98 of 100 cases.

    Args:
        found: the error, with the percentiles of its resamples.
        chance: its high end is the largest error to be expected of a calibrated model.
    """
    value, low, high = found["value"], found["low"], found["high"]
    if low is None or high is None:
        return found
    if value <= chance["high"]:
        return estimate(value, 0.0, high)
    return estimate(value, max(0.0, 2 * value - high), max(0.0, 2 * value - low))


def _curve(
    found: ReliabilityBins, kind: Kind, numbers: dict[str, Estimate], groups: np.ndarray
) -> list[dict]:
    return [
        {
            "low_edge": float(found.edges[j]),
            "high_edge": float(found.edges[j + 1]),
            "n": int(found.count[j]),
            "confidence": float(found.confidence[j]),
            "frequency": with_exact_ends(
                numbers[f"{kind}/{j}"], groups_among(found.position == j, groups)
            ),
        }
        for j in np.flatnonzero(found.count).tolist()
    ]


def _scaling(predictions: Predictions, resamples: int) -> dict | None:
    """What temperature and vector scaling do to an out-of-fold table, honestly."""
    if not predictions.has_folds or len(np.unique(predictions.folds)) < 2:
        return None
    result = {"raw": _scores(predictions)}
    for kind in FITS:
        fitted, scaled = fit_scaling(predictions, kind), nested_calibration(predictions, kind)
        result[kind] = _scores(scaled) | {
            "difference": _differences(predictions, scaled, resamples),
            "fitted": fitted.to_dict()
            | {"temperature": fitted.temperature, "at_bound": fitted.at_bound},
        }
    return result


def _differences(raw: Predictions, scaled: Predictions, resamples: int) -> dict[str, Estimate]:
    """Log-loss and Brier score, scaled less raw, resampled in pairs; below 0 scaling is better."""
    y, both = raw.y, (scaled.probabilities, raw.probabilities)
    change = np.stack(
        [np.subtract(*(loss(y, p) for p in both)) for loss in (image_log_loss, image_brier)]
    )

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = change @ weights.T / weights.sum(axis=1)
        return dict(zip(("log_loss", "brier"), means, strict=True))

    return estimates(statistic, raw.groups, resamples)


def _scores(predictions: Predictions) -> dict[str, float]:
    y, probabilities = predictions.y, predictions.probabilities
    return {
        "log_loss": float(image_log_loss(y, probabilities).mean()),
        "brier": float(image_brier(y, probabilities).mean()),
        "ece": expected_calibration_error(y, probabilities),
        "classwise_ece": classwise_calibration_error(y, probabilities),
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
