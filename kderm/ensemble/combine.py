"""Members' answers to one: their average, and how far they disagree. Numpy only.

Reads the probabilities that `kderm.ensemble.predictor` collects, averaged over views already
(`kderm.models.averaging`), and returns plain arrays. Each row is computed from itself alone, so an
image's answer cannot depend on its neighbours.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kderm.models.averaging import How, check_how, geometric_mean


def member_weights(scores: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Weight of each member: how far its out-of-fold macro AUC exceeds chance (0.5).

    The weights come from scores frozen in the bundle, never from ranks within a batch, so one image
    alone can be predicted. Members at or below chance weigh nothing; if all are, they weigh alike.

    Args:
        scores: one mapping a member, with "macro_auc".

    Returns:
        float64 array (m,), sums to 1.
    """
    excess = np.array([float(score["macro_auc"]) - 0.5 for score in scores], dtype=np.float64)
    excess = np.where(np.isfinite(excess), np.maximum(excess, 0.0), 0.0)
    if excess.sum() == 0:
        excess = np.ones_like(excess)
    return excess / excess.sum()


def average_members(members: np.ndarray, how: How, weights: np.ndarray | None = None) -> np.ndarray:
    """The ensemble's answer from its members' answers.

    Args:
        members: float array (n, m, k), rows sum to 1.
        how: "probability" (arithmetic mean), "logit" (normalised geometric mean, that is the
            softmax of the mean of the log-probabilities) or "oof" (arithmetic, weighted).
        weights: float array (m,), not negative, for "oof" and only there.

    Returns:
        float64 array (n, k), rows sum to 1.
    """
    check_how(how)
    if (weights is not None) != (how == "oof"):
        raise ValueError(
            f"weights belong to how='oof' and only there. Received: how={how!r}, weights={weights}"
        )
    members = np.asarray(members, dtype=np.float64)
    if how == "logit":
        return geometric_mean(members, axis=1)
    if how == "probability":
        return members.mean(axis=1)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != members.shape[1:2] or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(
            f"Expected {members.shape[1]} weights, not negative, one above 0. Received: {weights}"
        )
    return np.einsum("nmk,m->nk", members, weights / weights.sum())


def fold_sd(members: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """How far the members disagree: standard deviation of the probability of a set of classes.

    The standard deviation is that of the members at hand (divisor m), unweighted, so it is 0 for
    one member and for members that all say the same.

    Args:
        members: float array (n, m, k), rows sum to 1.
        classes: bool array (n, k) or (k,): the classes whose probabilities are added up first, for
            example the predicted class of each image, or the malignant classes.

    Returns:
        float64 array (n,), in [0, 0.5].
    """
    members = np.asarray(members, dtype=np.float64)
    chosen = np.broadcast_to(classes, (members.shape[0], members.shape[2]))
    return np.einsum("nmk,nk->nm", members, chosen.astype(np.float64)).std(axis=1)


def normalised_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon entropy of the ensemble's answer divided by that of a uniform answer.

    Without a unit (neither bits nor nats), so that label spaces of different size compare: 0 when
    one class has probability 1, 1 when all classes have the same.

    Args:
        probabilities: float array (n, k), rows sum to 1.

    Returns:
        float64 array (n,), in [0, 1].
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    safe = np.where(probabilities > 0, probabilities, 1.0)
    entropy = -(probabilities * np.log(safe)).sum(axis=1) / np.log(probabilities.shape[1])
    return np.clip(entropy, 0.0, 1.0)
