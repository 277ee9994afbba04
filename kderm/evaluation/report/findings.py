"""All numbers of a report, gathered into what becomes metrics.json. Draws and writes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kderm.evaluation.calibration.report import calibration_report
from kderm.evaluation.calibration.scaling import Kind, nested_calibration
from kderm.evaluation.decisions.decision_curve import decision_report
from kderm.evaluation.decisions.points import FrozenPoint, operating_report
from kderm.evaluation.intervals import RESAMPLES
from kderm.evaluation.lesions import lesion_report
from kderm.evaluation.measure import measure, without_nan
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.discrimination import confused_pairs
from kderm.evaluation.report.mistakes import confident_mistakes
from kderm.evaluation.report.prior import prior_shift
from kderm.evaluation.report.sources import SourceScore, score_by_source
from kderm.evaluation.report.subgroup_sections import subgroup_thresholds
from kderm.evaluation.subgroups import subgroup_report
from kderm.evaluation.uncertainty.abstain import abstain_report
from kderm.evaluation.uncertainty.conformal import ConformalSets
from kderm.evaluation.uncertainty.conformal_report import conformal_report


@dataclass(frozen=True, eq=False)
class Findings:
    """What the sections of a report are made of.

    Attributes:
        metrics: the content of metrics.json.
        calibrated: the predictions that decisions were measured on: each fold calibrated by the
            others, or, without folds, the table as it is.
        sources: one score a source.
        mistakes: of `confident_mistakes`.
    """

    metrics: dict
    calibrated: Predictions
    sources: list[SourceScore]
    mistakes: pd.DataFrame


def gather(
    predictions: Predictions,
    *,
    checkpoint: str | None,
    calibration: Kind = "temperature",
    frozen: Sequence[FrozenPoint] | None = None,
    frozen_sets: ConformalSets | None = None,
    resamples: int = RESAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Measure everything that the table can tell.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        checkpoint: "best", "last" or "stopped", how each fold's checkpoint was chosen; or None.
        calibration: how the folds calibrate each other.
        frozen: operating points chosen before, on the scale of these predictions.
        frozen_sets: conformal sets fitted before, on the same scale.
        resamples: bootstrap resamples of whole groups.
        progress: called with (resamples done, resamples) of the first and longest part.

    Returns:
        metrics is that of `measure`, and besides: "calibration_report", "operating_points",
        "net_benefit", "lesions", "subgroups", "conformal", "abstain" (each as the function that
        makes it documents it),
        "prior" and "sources" (a dict a class or source), "confused_pairs", "confident_mistakes",
        and "scaling": the kind of scaling that new images get, None where none was fitted here.
    """
    metrics = measure(predictions, checkpoint=checkpoint, resamples=resamples, progress=progress)
    sources = score_by_source(predictions, resamples)
    calibrated = calibrated_by_others(predictions, calibration)
    points = operating_report(calibrated, frozen, resamples=resamples)
    reliability = calibration_report(predictions, resamples=resamples)
    mistakes = confident_mistakes(predictions)
    metrics |= {
        "confused_pairs": confused_pairs(metrics),
        "confident_mistakes": mistakes.to_dict("records"),
        "calibration_report": reliability,
        "scaling": calibration if reliability["scaling"] else None,
        "prior": prior_shift(predictions).to_dict("records"),
        "operating_points": points,
        "net_benefit": decision_report(calibrated, resamples=resamples),
        "lesions": lesion_report(predictions, resamples=resamples),
        "subgroups": subgroup_report(
            calibrated, thresholds=subgroup_thresholds(points), resamples=resamples
        ),
        "conformal": conformal_report(calibrated, frozen=frozen_sets, resamples=resamples),
        "abstain": abstain_report(calibrated, resamples=resamples),
        "sources": [_source(score) for score in sources],
    }
    return Findings(without_nan(metrics), calibrated, sources, mistakes)


def _source(score: SourceScore) -> dict:
    ends = {"low": score.interval.low, "high": score.interval.high}
    return {
        "source": score.source,
        "images": score.images,
        "groups": score.groups,
        "macro_auc": {"value": score.macro_auc} | ends,
    }


def calibrated_by_others(predictions: Predictions, kind: Kind) -> Predictions:
    """Each fold scaled as the other folds ask for; a table without folds stays as it is."""
    if predictions.has_folds and len(np.unique(predictions.folds)) > 1:
        return nested_calibration(predictions, kind)
    return predictions
