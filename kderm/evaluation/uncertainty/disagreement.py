"""How unsure the members of an ensemble are, and how far they contradict one another.

Takes the members' probabilities as an array, returns an array with one number an image; each number
is computed from its own image alone. `ensemble-predict` writes them beside its answers, `abstain`
ranks images by them. Numpy only.

Entropies are divided by ln k, as in `kderm.ensemble.combine`: without a unit, so that label spaces
of different size compare. Then entropy of the mean = mean entropy + mutual information.
"""

from itertools import combinations

import numpy as np

from kderm.evaluation.metrics import decided_class

COLUMNS = ("entropy", "mutual_information", "disagreement")


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon entropy over that of a uniform answer: 0 certain, 1 all classes alike.

    Args:
        probabilities: float (..., k), sums to 1 along the last axis; k at least 2.

    Returns:
        float64 (...), in [0, 1].
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    safe = np.where(probabilities > 0, probabilities, 1.0)
    in_nats = -(probabilities * np.log(safe)).sum(axis=-1)
    return np.clip(in_nats / np.log(probabilities.shape[-1]), 0.0, 1.0)


def mean_answer(members: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """float64 (n, k): the arithmetic mean of the members' answers.

    Args:
        members: float (m, n, k), rows sum to 1.
        weights: float (m,), not negative, one above 0; all alike by default.
    """
    members = _checked(members)
    return np.einsum("mnk,m->nk", members, _shares(members, weights))


def mutual_information(members: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The part of the mean answer's entropy that comes from members saying different things.

    Entropy of the mean minus mean entropy: 0 if all members give the same answer, however unsure;
    high where each is sure of something else. It speaks of what the training data leave open,
    while the mean entropy speaks of images that every member finds ambiguous.
    Source: Houlsby et al. 2011, arXiv:1112.5745, eq. 2; Depeweg et al. 2018, arXiv:1710.07283.

    Args:
        members: float (m, n, k), rows sum to 1.
        weights: float (m,), not negative, one above 0; all alike by default.

    Returns:
        float64 (n,), in [0, 1]; 0 for a single member.
    """
    members = _checked(members)
    own = np.einsum("mn,m->n", entropy(members), _shares(members, weights))
    # The mean of equal answers may differ from them in the last bit; Jensen says never below 0.
    return np.clip(entropy(mean_answer(members, weights)) - own, 0.0, 1.0)


def disagreement(members: np.ndarray) -> np.ndarray:
    """Mean total variation distance between two different members' answers.

    The distance of two answers is the probability that would have to be moved to turn one into the
    other; members that are sure of different classes are at distance 1.

    Args:
        members: float (m, n, k), rows sum to 1.

    Returns:
        float64 (n,), in [0, 1]; 0 for a single member.
    """
    members = _checked(members)
    pairs = list(combinations(range(len(members)), 2))
    total = np.zeros(members.shape[1])
    for one, other in pairs:
        total += np.abs(members[one] - members[other]).sum(axis=1) / 2
    return np.clip(total / max(len(pairs), 1), 0.0, 1.0)


def votes(members: np.ndarray) -> np.ndarray:
    """Share of the members whose highest probability is the class; a tied member votes for none.

    Args:
        members: float (m, n, k), rows sum to 1.

    Returns:
        float64 (n, k), rows sum to at most 1.
    """
    members = _checked(members)
    m, n, k = members.shape
    decided = decided_class(members.reshape(m * n, k)).reshape(m, n)
    return np.stack([(decided == j).mean(axis=0) for j in range(k)], axis=1)


def vote_agreement(members: np.ndarray) -> np.ndarray:
    """float64 (n,): share of the members that vote with the largest party; 0 if all are tied.

    Args:
        members: float (m, n, k), rows sum to 1.
    """
    return votes(members).max(axis=1)


def _checked(members: np.ndarray) -> np.ndarray:
    members = np.asarray(members, dtype=np.float64)
    if members.ndim != 3 or members.shape[0] == 0 or members.shape[2] < 2:
        raise ValueError(
            "Expected members (m, n, k) with m >= 1 and k >= 2. Received: " + str(members.shape)
        )
    return members


def _shares(members: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    if weights is None:
        return np.full(len(members), 1 / len(members))
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(members),) or (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(
            f"Expected {len(members)} weights, not negative, one above 0. Received: {weights}"
        )
    return weights / weights.sum()
