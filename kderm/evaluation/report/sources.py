"""Within each source by itself: what is left of a score when telling sources apart earns nothing.

Where sources differ in their share of a class, a member that only knows where an image comes from
ranks images well over all of them. Reads a `Predictions` table. Must stay free of Keras.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kderm.evaluation.intervals import RESAMPLES, Interval, batched, group_intervals
from kderm.evaluation.metrics import Scorecard
from kderm.evaluation.predictions import Predictions

# Pooled above every source by more than this: said in words.
GAIN = 0.02


@dataclass(frozen=True)
class SourceScore:
    """One source's own score.

    Attributes:
        source: its name.
        images, groups: how many.
        macro_auc: mean AUC over the classes that it has beside others; NaN where it has one class.
        interval: 95 % interval from resampling its groups.
    """

    source: str
    images: int
    groups: int
    macro_auc: float
    interval: Interval


def score_by_source(predictions: Predictions, resamples: int = RESAMPLES) -> list[SourceScore]:
    """One score a source, largest source first; empty with fewer than two sources."""
    if "source" not in predictions.table:
        return []
    source = predictions.table["source"].fillna("unknown").astype(str)
    counts = source.value_counts()
    if len(counts) < 2:
        return []
    return [_score(predictions, source, name, resamples) for name in counts.index]


def sources_sentence(scores: list[SourceScore], pooled: float) -> str | None:
    """A warning where the pooled score is above that of every source."""
    known = [score.macro_auc for score in scores if not math.isnan(score.macro_auc)]
    if not known or pooled <= max(known) + GAIN:
        return None
    return (
        f"Over all sources the macro AUC is {pooled:.3f}, within each by itself at most "
        f"{max(known):.3f}. The sources differ in their classes, so a part of the pooled number is "
        "for telling them apart. For images of one source, its own row counts."
    )


def _score(predictions: Predictions, source: pd.Series, name: str, resamples: int) -> SourceScore:
    mine = (source == name).to_numpy()
    part = Predictions(predictions.table[mine].reset_index(drop=True), predictions.labels)
    card = Scorecard(part.y, part.probabilities, part.labels)

    @batched
    def macro_auc(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"macro_auc": card(weights)["macro_auc"]}

    return SourceScore(
        name,
        len(part),
        len(set(part.groups)),
        macro_auc(np.ones(len(part)))["macro_auc"],
        group_intervals(macro_auc, part.groups, resamples=resamples)["macro_auc"],
    )
