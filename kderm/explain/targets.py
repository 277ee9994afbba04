"""What a map is asked for: the predicted class, and melanoma or whatever stands for malignancy.

Turns probabilities into the weighted sums of logits that `kderm.explain.activation_maps.Evidence`
takes. Numpy only.
"""

from dataclasses import dataclass

import numpy as np

from kderm.errors import unknown_name
from kderm.labels import LabelSpace

MALIGNANT = "malignant"
PREDICTED, WATCHED, RUNNER_UP, CHOSEN = "predicted", "watched", "runner-up", "chosen"


@dataclass(frozen=True)
class Watched:
    """The diagnosis that is asked after in every picture.

    Attributes:
        code: what it is called in tables and captions: a class code, or "malignant".
        name: in full.
        classes: positions of its classes.
    """

    code: str
    name: str
    classes: tuple[int, ...]


def watched_class(labels: LabelSpace) -> Watched | None:
    """Melanoma where the label space has it, else its malignant classes; None where it has none."""
    code = labels.resolve("melanoma")
    if code is not None:
        index = labels.index(code)
        return Watched(code, labels.names[index], (index,))
    malignant = tuple(labels.malignant_indices)
    if len(malignant) == 1:
        return Watched(labels.codes[malignant[0]], labels.names[malignant[0]], malignant)
    return Watched(MALIGNANT, MALIGNANT.title(), malignant) if malignant else None


@dataclass(frozen=True)
class Question:
    """One map that is asked for an image.

    Attributes:
        role: PREDICTED, WATCHED, or RUNNER_UP where the predicted class is the watched one; CHOSEN
            where somebody asked for this class.
        code: of the class, or "malignant".
        name: in full.
        probability: of it.
    """

    role: str
    code: str
    name: str
    probability: float


def questions(
    probabilities: np.ndarray, labels: LabelSpace
) -> tuple[list[list[Question]], np.ndarray]:
    """Two maps an image: for the predicted class, and for the watched one.

    Where both are the same, or no class is watched, the second is for the likeliest other class.

    Args:
        probabilities: float array (n, k), columns in label-space order.
        labels: the label space.

    Returns:
        two questions an image, and their weights, float32 (n, 2, k): the class's logit less the
        mean of all logits (what is common to all of them is no evidence: softmax does not see it).
        Several malignant classes count by their probabilities, as in the gradient of the logarithm
        of their sum.
    """
    watched = watched_class(labels)
    count = len(labels)
    weights = np.zeros((len(probabilities), 2, count))
    asked: list[list[Question]] = []
    for row, answer in enumerate(np.asarray(probabilities, np.float64)):
        best, second = np.argsort(-answer, kind="stable")[:2]
        if watched is None or best in watched.classes:
            other = Question(RUNNER_UP, labels.codes[second], labels.names[second], answer[second])
            weights[row, 1, second] = 1.0
        else:
            classes = list(watched.classes)
            total = float(answer[classes].sum())
            other = Question(WATCHED, watched.code, watched.name, total)
            shares = answer[classes] / total if total > 0 else 1.0 / len(classes)
            weights[row, 1, classes] = shares
        weights[row, 0, best] = 1.0
        predicted = Question(PREDICTED, labels.codes[best], labels.names[best], answer[best])
        asked.append([predicted, other])
    return asked, (weights - 1.0 / count).astype(np.float32)


def chosen_question(
    probabilities: np.ndarray, labels: LabelSpace, target: str
) -> tuple[list[list[Question]], np.ndarray]:
    """One map an image, for the class called `target`, or for "malignant".

    Args:
        probabilities: float array (n, k), columns in label-space order.
        labels: the label space.
        target: a class's code or name, or "malignant" for all malignant classes by their
            probabilities, as in `questions`.

    Returns:
        as `questions`, with one question an image.

    Raises:
        UserError: no such class, with the nearest ones.
    """
    code = labels.resolve(target)
    malignant = list(labels.malignant_indices)
    if code is not None:
        classes, name = [labels.index(code)], labels.names[labels.index(code)]
    elif target.lower() == MALIGNANT and malignant:
        code, classes, name = MALIGNANT, malignant, MALIGNANT.title()
    else:
        known = [*labels.codes, *([MALIGNANT] if malignant else [])]
        raise unknown_name(f"class of {labels.name}", target, known)
    of_classes = np.asarray(probabilities, np.float64)[:, classes]
    totals = of_classes.sum(axis=1, keepdims=True)
    even = np.full_like(of_classes, 1 / len(classes))
    weights = np.zeros((len(of_classes), 1, len(labels)))
    weights[:, 0, classes] = np.divide(of_classes, totals, out=even, where=totals > 0)
    asked = [[Question(CHOSEN, code, name, float(total))] for total in totals[:, 0]]
    return asked, (weights - 1.0 / len(labels)).astype(np.float32)
