"""The scores of the official ISIC 2018 and 2019 scorer, as it defines them.

They are not the report's own: a class is called at a probability above one half, whatever the
others have, and a rate without an image to stand on is a freebie of 1. Use them to compare with a
leaderboard, the others to judge a model.
"""

import numpy as np

from kderm.evaluation.predictions import Predictions
from kderm.evaluation.scores.counting import DecisionCounts, class_rates, decided_class
from kderm.evaluation.scores.ranking import RankedScores
from kderm.evaluation.scores.weights import mean_of_defined

# A synthetic image among the test images of 2018, which the scorer leaves out.
WEIGHTLESS = "ISIC_0035068"
CALLED_ABOVE = 0.5


def isic_scores(predictions: Predictions) -> dict:
    """What isic-challenge-scoring 5.6.0 tells of a submission.

    Returns:
        balanced_accuracy: mean recall, a tied top class counts as wrong. per_category: code to
        accuracy, sensitivity, specificity, dice, ppv, npv, auc, auc_sens_80 and ap of the class
        against the rest. macro_average: the mean of each over the classes. Areas of a class absent
        from the truth are NaN and left out of the mean; the scorer itself stops there.
    """
    y, probabilities = predictions.y, predictions.probabilities
    weights = (predictions.table["image_id"] != WEIGHTLESS).to_numpy(dtype=np.float64)
    per_category = {
        code: _category(y == j, probabilities[:, j], weights)
        for j, code in enumerate(predictions.labels.codes)
    }
    names = next(iter(per_category.values()))
    counts = DecisionCounts(y, decided_class(probabilities), len(predictions.labels))(weights)
    return {
        "balanced_accuracy": mean_of_defined(class_rates(counts)["sensitivity"]),
        "macro_average": {
            name: mean_of_defined(np.array([own[name] for own in per_category.values()]))
            for name in names
        },
        "per_category": per_category,
    }


def _category(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    called = score > CALLED_ABOVE
    true, false = weights @ (positive & called), weights @ (~positive & called)
    missed, cleared = weights @ (positive & ~called), weights @ (~positive & ~called)
    areas = RankedScores(positive, score).scores(weights)
    return {
        "accuracy": _or_freebie(true + cleared, true + false + missed + cleared),
        "sensitivity": _or_freebie(true, true + missed),
        "specificity": _or_freebie(cleared, cleared + false),
        "dice": _or_freebie(2 * true, 2 * true + false + missed),
        "ppv": _or_freebie(true, true + false),
        "npv": _or_freebie(cleared, cleared + missed),
        "auc": areas["auc"],
        "auc_sens_80": areas["auc_above"],
        "ap": areas["average_precision"],
    }


def _or_freebie(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0
