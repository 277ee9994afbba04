"""Scores of an event, and the rules that choose the threshold which turns a score into a flag.

Thresholds are chosen on out-of-fold predictions and frozen in the bundle before any test (see
`points`). An image is flagged when its score is at or above the threshold.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kderm.counting import counted
from kderm.errors import UserError
from kderm.evaluation.metrics import threshold_counts
from kderm.evaluation.predictions import Predictions
from kderm.labels import LabelSpace

MELANOMA = "mel"
MALIGNANT = "malignant"
# Shares of images are whole numbers over whole numbers; 0.95 in binary is a hair off.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Target:
    """An event to decide on: one class, or all malignant classes together.

    Attributes:
        name: a class code, or "malignant".
        indices: the classes that count as positive, positions in the label space.
    """

    name: str
    indices: tuple[int, ...]

    def score(self, probabilities: np.ndarray) -> np.ndarray:
        """float (n,): the probability of the event; `probabilities` (n, k) in label-space order."""
        return event_probability(probabilities, list(self.indices))

    def truth(self, y: np.ndarray) -> np.ndarray:
        """bool (n,): whether the event is true; y int (n,)."""
        return np.isin(y, self.indices)


def targets_of(labels: LabelSpace) -> list[Target]:
    """Melanoma and malignant, as far as the label space has them and they are not the same."""
    found = []
    if labels.malignant:
        found.append(Target(MALIGNANT, tuple(labels.malignant_indices)))
    if MELANOMA in labels.codes and labels.malignant != (MELANOMA,):
        found.append(Target(MELANOMA, (labels.index(MELANOMA),)))
    return found


def target_named(name: str, labels: LabelSpace) -> Target:
    """The target `name` of `labels`: a class code, or "malignant".

    Raises:
        UserError: the label space has no such class, or no malignant one.
    """
    if name != MALIGNANT:
        return Target(name, (labels.index(name),))
    if not labels.malignant:
        raise UserError(
            f"Expected a label space with malignant classes. Received: {labels.name}, which names "
            "none. Use predictions over the label space that the threshold was chosen for."
        )
    return Target(MALIGNANT, tuple(labels.malignant_indices))


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen.

    Attributes:
        kind: "youden" (sensitivity + specificity highest), "sensitivity" or "specificity" (at
            least `level`, and the other as high as that allows) or "cost" (`level` times the missed
            positives plus the false alarms lowest).
        level: a share, or the price of a miss in false alarms; 0 for "youden".
    """

    kind: Literal["youden", "sensitivity", "specificity", "cost"]
    level: float = 0.0

    @property
    def name(self) -> str:
        """`youden`, `sensitivity_95`, `cost_10` and the like."""
        if self.kind == "youden":
            return "youden"
        return f"{self.kind}_{self.level if self.kind == 'cost' else 100 * self.level:g}"

    @property
    def words(self) -> str:
        """What the rule asks for, for people."""
        if self.kind == "youden":
            return "highest sensitivity + specificity (Youden)"
        if self.kind == "cost":
            return f"one miss weighs as much as {self.level:g} false alarms"
        other = "sensitivity" if self.kind == "specificity" else "specificity"
        return f"highest {other} at a {self.kind} of {100 * self.level:g} % or more"


RULES = (
    Rule("youden"),
    Rule("specificity", 0.90),
    Rule("specificity", 0.95),
    Rule("sensitivity", 0.80),
    Rule("sensitivity", 0.90),
    Rule("sensitivity", 0.95),
    Rule("cost", 10.0),
)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the malignant score, and what it gives on the data it was fitted on."""

    threshold: float
    sensitivity: float
    specificity: float
    rule: str = "youden"


def malignant_score(probabilities: np.ndarray, labels: LabelSpace) -> np.ndarray:
    """float (n,) in [0, 1]: the probability that the lesion is of any malignant class.

    Args:
        probabilities: float (n, k), rows sum to 1, columns in label-space order.
        labels: names the malignant classes.
    """
    return event_probability(probabilities, labels.malignant_indices)


def event_probability(probabilities: np.ndarray, indices: list[int]) -> np.ndarray:
    """float (n,) in [0, 1]: the sum over classes, which rounding might carry above 1."""
    return np.minimum(probabilities[:, indices].sum(axis=1), 1.0)


def malignant_truth(y: np.ndarray, labels: LabelSpace) -> np.ndarray:
    """bool (n,): whether the true class is malignant.

    Args:
        y: int (n,), index into the label space's codes.
        labels: names the malignant classes.
    """
    return np.isin(y, labels.malignant_indices)


def choose_threshold(y_binary: np.ndarray, score: np.ndarray, rule: Rule) -> float | None:
    """The threshold that `rule` asks for; None where only flagging nobody would fulfil it.

    Among equally good ones the lowest, that is the most sensitive one; for a wanted sensitivity the
    highest that reaches it. It lies half-way to the next lower score, so that rounding a score in a
    table does not change its flag.

    Args:
        y_binary: bool or 0/1 (n,), with both values present.
        score: float (n,), higher means more likely positive.
        rule: what to look for.

    Raises:
        UserError: only one of the two values is present.
    """
    thresholds, true, false = threshold_counts(_both_sides(y_binary), score)
    true, false = true.astype(np.int64), false.astype(np.int64)
    if rule.kind == "sensitivity":
        return _half_way(thresholds, int(np.argmax(true >= rule.level * true[-1] - ROUNDING)))
    if rule.kind == "specificity":
        allowed = np.flatnonzero(false <= (1 - rule.level) * false[-1] + ROUNDING)
        return _half_way(thresholds, int(allowed[-1])) if len(allowed) else None
    if rule.kind == "cost":
        gain = rule.level * true - false
        if gain.max() < 0:
            return None
    else:
        # J in whole counts, TP N - FP P, so that equal thresholds compare as equal.
        gain = true * false[-1] - false * true[-1]
    return _half_way(thresholds, int(np.flatnonzero(gain == gain.max())[-1]))


def youden_threshold(y_binary: np.ndarray, score: np.ndarray) -> float:
    """The threshold with the highest sensitivity + specificity - 1 (Youden 1950).

    See `choose_threshold`, which always finds one for this rule.
    """
    return choose_threshold(y_binary, score, Rule("youden"))


def sensitivity_specificity(
    y_binary: np.ndarray, score: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Share of positives at or above `threshold`, and of negatives below it.

    Args:
        y_binary: bool or 0/1 (n,), with both values present.
        score: float (n,).
        threshold: flagged from here upwards.

    Raises:
        UserError: only one of the two values is present.
    """
    y_binary = _both_sides(y_binary)
    flagged = np.asarray(score) >= threshold
    return float(flagged[y_binary].mean()), float((~flagged[~y_binary]).mean())


def malignant_operating_point(predictions: Predictions) -> OperatingPoint | None:
    """Youden's point of the malignant score.

    None where there is nothing to choose: a label space without malignant classes, or a truth
    that is all malignant or all benign.
    """
    positive = malignant_truth(predictions.y, predictions.labels)
    if positive.all() or not positive.any():
        return None
    score = malignant_score(predictions.probabilities, predictions.labels)
    threshold = youden_threshold(positive, score)
    return OperatingPoint(threshold, *sensitivity_specificity(positive, score, threshold))


def _both_sides(y_binary: np.ndarray) -> np.ndarray:
    y_binary = np.asarray(y_binary).astype(bool)
    if y_binary.all() or not y_binary.any():
        side = "positive" if len(y_binary) and y_binary.all() else "negative"
        raise UserError(
            "A threshold needs positive and negative images to choose between. "
            f"Received: {counted(len(y_binary), 'image')}, all {side}. Predict images of both "
            "kinds first."
        )
    return y_binary


def _half_way(thresholds: np.ndarray, chosen: int) -> float:
    """Between the chosen threshold and the next lower one, where there is room."""
    value = float(thresholds[chosen])
    if chosen + 1 == len(thresholds):
        return value
    below = float(thresholds[chosen + 1])
    middle = (value + below) / 2
    return middle if middle > below else value
