"""The columns of predictions.csv: calibrated, flagged by the bundle's frozen thresholds, as text.

Between what the members answered (`kderm.ensemble.predictor`) and what is left behind
(`kderm.ensemble.result`). A row is made from one image's answers alone. Sees arrays and tables
only.
"""

import numpy as np
import pandas as pd

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.combine import normalised_entropy
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.rounding import DIGITS, significant
from kderm.evaluation.decisions.operating_points import malignant_score, target_named


def result_table(
    bundle: Bundle,
    inputs: Inputs,
    answers: dict[str, np.ndarray],
    prevalence: Prevalence | None = None,
) -> pd.DataFrame:
    """The columns of predictions.csv; numbers NaN and text "" where there is no answer.

    - image_id, path
    - p_<code>...: probabilities, calibrated if the bundle is, then corrected to the prevalence
    - predicted (code), predicted_name
    - p_malignant: sum over the malignant classes
    - p_malignant_uncorrected: the same before the correction; absent without one
    - malignant: 1 at or above the bundle's threshold, else 0; it and the next two are of the
      calibrated answers before the correction: there they were frozen, and what was measured of
      them (sensitivity, specificity, coverage of each class) is the same at any prevalence
    - operating_points: names of the bundle's frozen thresholds that the image reaches
    - conformal_set: the classes that hold the truth with the bundle's coverage, likeliest first
    - entropy of p_<code>: 0 certain, 1 undecided; see `combine.normalised_entropy`
    - fold_sd, malignant_sd: standard deviation between members of the probability of the class that
      their average predicts, and of malignant; with mutual_information, disagreement and
      vote_agreement (see `uncertainty.disagreement`) they are of the members' answers before
      calibration
    - unlike: how unlike the training data it looks; unlike_training: 1 above the bundle's threshold
    - passes: forward passes, members times views, fewer for images that an early exit let go
    - error, and label where any is known
    """
    labels = bundle.labels
    readable = answers["error"] == ""
    before = calibrated_answer(bundle, answers["probabilities"])
    probabilities = before if prevalence is None else prevalence.apply(before)
    best = np.where(readable, np.nan_to_num(probabilities).argmax(axis=1), -1)
    # Position -1 is the empty text of images without an answer.
    codes, names = np.array([*labels.codes, ""]), np.array([*labels.names, ""])
    columns = {"image_id": inputs.table["image_id"], "path": inputs.table["path"]}
    columns |= dict(zip(labels.columns, probabilities.T, strict=True))
    columns |= {"predicted": codes[best], "predicted_name": names[best]}
    nothing = np.full(len(best), np.nan)
    score = malignant_or_nothing(bundle, before)
    # A class of that code is the sum already: `LabelSpace` sees to it.
    columns.setdefault("p_malignant", malignant_or_nothing(bundle, probabilities))
    if prevalence is not None:
        columns["p_malignant_uncorrected"] = score
    columns |= {
        "malignant": flags(score, bundle.threshold),
        "operating_points": reached_points(bundle, before),
        "conformal_set": conformal_sets(bundle, before),
        "entropy": significant(normalised_entropy(probabilities)),
        "fold_sd": answers["fold_sd"],
        "malignant_sd": answers["malignant_sd"] if labels.malignant else nothing,
        "mutual_information": answers["mutual_information"],
        "disagreement": answers["disagreement"],
        "vote_agreement": answers["vote_agreement"],
        "unlike": answers["unlike"],
        "unlike_training": flags(answers["unlike"], bundle.unlike_threshold),
        "passes": answers["passes"],
        "error": answers["error"],
    }
    if inputs.labelled:
        columns["label"] = inputs.table["label"]
    return pd.DataFrame(columns)


def calibrated_answer(bundle: Bundle, probabilities: np.ndarray) -> np.ndarray:
    """float64 (n, k): the members' answer on the bundle's scale, rounded as it is written."""
    scaling = bundle.calibration
    return probabilities if scaling is None else significant(scaling.apply(probabilities))


def malignant_or_nothing(bundle: Bundle, probabilities: np.ndarray) -> np.ndarray:
    """float64 (n,): the malignant probability as it is written; NaN without a malignant class."""
    if not bundle.labels.malignant:
        return np.full(len(probabilities), np.nan)
    return significant(malignant_score(probabilities, bundle.labels))


def reached_points(bundle: Bundle, probabilities: np.ndarray) -> list[str]:
    """For each image the names of the frozen thresholds at or below its score, apart by a space.

    Args:
        bundle: holds the thresholds.
        probabilities: float (n, k), calibrated; NaN rows reach none.
    """
    reached = [
        (point.name, significant(target_named(point.target, bundle.labels).score(probabilities)))
        for point in bundle.operating_points
    ]
    values = [point.value for point in bundle.operating_points]
    return [
        " ".join(
            name for (name, score), value in zip(reached, values, strict=True) if score[i] >= value
        )
        for i in range(len(probabilities))
    ]


def conformal_sets(bundle: Bundle, probabilities: np.ndarray) -> list[str]:
    """For each image the codes of its set, "" where it is empty or there is no answer."""
    sets = bundle.conformal
    if sets is None:
        return [""] * len(probabilities)
    known = np.isfinite(probabilities).all(axis=1)
    named = iter(sets.named(probabilities[known]))
    return [next(named) if answered else "" for answered in known]


def flags(score: np.ndarray, threshold: float | None) -> np.ndarray:
    """1 at or above the threshold, 0 below, NaN without a score or a threshold."""
    if threshold is None:
        return np.full(len(score), np.nan)
    return np.where(np.isnan(score), np.nan, score >= threshold)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is written: `DIGITS` significant digits, empty cells for NaN."""
    table = table.copy()
    for column in table.select_dtypes("number").columns:
        table[column] = [
            "" if np.isnan(value) else f"{value:.{DIGITS}g}" for value in table[column]
        ]
    return table
