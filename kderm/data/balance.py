"""Balancing, from the labels of the training folds only: which images an epoch shows, and weights.

Three means, which can be combined but two of which undo each other: weights in the loss, drawing
rare classes more often, and showing images several times. `plan_balance` makes one plan of them and
knows what they come to: the share that each class has in the loss. `TrainBatches` follows the plan.
Must stay free of Keras.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kderm.errors import UserError, unknown_name

SCHEMES = ("none", "balanced", "sqrt", "effective", "power", "pos_weight")


@dataclass(frozen=True, eq=False)
class BalancePlan:
    """What an epoch shows and what it counts.

    Attributes:
        weights: float32 (k,), of each class in the loss; 0 for a class without images.
        share: float64 (k,), share of each class of the training images, sums to 1.
        prior: float64 (k,), share of each class in the loss of an epoch, sums to 1.
        visits: int64 (length,), positions in the training labels, each as often as an epoch shows
            it; None where images are drawn at random.
        chances: float64 (n,), probability of each training image, sums to 1; None where an epoch
            shows `visits`.
    """

    weights: np.ndarray
    share: np.ndarray
    prior: np.ndarray
    visits: np.ndarray | None
    chances: np.ndarray | None

    @property
    def length(self) -> int:
        """Images that an epoch shows, repetitions counted."""
        return len(self.chances if self.visits is None else self.visits)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The order of one epoch: int64 (length,), positions in the training labels.

        Every visit once, shuffled, or independent draws with replacement.
        """
        if self.visits is None:
            return rng.choice(len(self.chances), self.length, p=self.chances)
        return rng.permutation(self.visits)


def plan_balance(
    labels: np.ndarray,
    codes: Sequence[str],
    *,
    by: Sequence[str],
    scheme: str,
    power: float,
    effective_beta: float,
    repeat: Mapping[str, int],
) -> BalancePlan:
    """The plan of one training set.

    Where weights stand beside a sampler or repetitions, they are scaled so that their mean over the
    images an epoch shows is 1, or the learning rate would grow with them (pos_weight is taken as it
    is). Both are computed from the images there are, not from the ones shown: they stack.

    Args:
        labels: int (n,), class indices of the training images.
        codes: class codes of the label space, k of them.
        by: "weights", "sampler" and "repeat", any but the last two together; empty for none.
        scheme: strength of weights and sampler, see `class_weights`.
        power: see `class_weights`.
        effective_beta: see `class_weights`.
        repeat: code -> times its images are shown an epoch, for by=repeat; others once.

    Raises:
        UserError: see `check_balance`; or a scheme that these labels do not allow.
    """
    check_balance(codes, by=by, repeat=repeat, scheme=scheme)
    labels = np.asarray(labels)
    classes = len(codes)
    weights = class_weights(labels, classes, "none")
    if "weights" in by or "sampler" in by:
        strength = class_weights(
            labels, classes, scheme, effective_beta=effective_beta, power=power
        )
        weights = strength if "weights" in by else weights
    if "sampler" in by:
        visits, chances = None, strength[labels].astype(np.float64)
        chances /= chances.sum()
        shown = np.bincount(labels, weights=chances, minlength=classes)
    else:
        times = np.array([repeat.get(code, 1) for code in codes])
        visits, chances = np.repeat(np.arange(len(labels)), times[labels]), None
        shown = np.bincount(labels[visits], minlength=classes).astype(np.float64)
    if "weights" in by and len(by) > 1 and scheme != "pos_weight":
        weights = (weights * shown.sum() / (weights @ shown)).astype(np.float32)
    counted = shown * weights
    share = np.bincount(labels, minlength=classes) / len(labels)
    return BalancePlan(weights, share, counted / counted.sum(), visits, chances)


def check_balance(
    codes: Sequence[str],
    *,
    by: Sequence[str],
    repeat: Mapping[str, int],
    scheme: str = "none",
) -> None:
    """Refuse balancing that contradicts itself; needs no labels, so it can come before any work.

    Raises:
        UserError: sampler and repeat together, repeat without multipliers, multipliers without
            repeat, a multiplier below 1, one of an unknown class, or pos_weight for other than two
            classes.
    """
    if "sampler" in by and "repeat" in by:
        raise UserError(
            "Expected balance.by to hold sampler or repeat, not both: the sampler divides by the "
            "counts that repeating multiplies, so they cancel. "
            f"Received: {', '.join(by)}. Keep one of them."
        )
    if "repeat" in by and not repeat:
        raise UserError(
            "Expected multipliers in balance.repeat, as {mel: 5, df: 40}, for balance.by=repeat. "
            "Received: none. Add them, or take repeat out of balance.by."
        )
    if repeat and "repeat" not in by:
        raise UserError(
            "Expected repeat in balance.by where balance.repeat has multipliers. "
            f"Received: by = {', '.join(by) or 'nothing'}, repeat = {dict(repeat)}. "
            "Add repeat to balance.by, or leave the multipliers out."
        )
    for code, times in repeat.items():
        if code not in codes:
            raise unknown_name("class in balance.repeat", code, codes)
        if times < 1:
            raise UserError(
                f"Expected multipliers of 1 or more in balance.repeat. Received: {code}: {times}. "
                "To leave a class out, map its label to drop (data.map)."
            )
    if scheme == "pos_weight" and ("weights" in by or "sampler" in by):
        _check_two(len(codes))


def class_weights(
    labels: np.ndarray,
    classes: int,
    scheme: str,
    *,
    effective_beta: float = 0.999,
    power: float = 0.5,
) -> np.ndarray:
    """One weight per class, scaled so that the mean over the training images is 1.

    Args:
        labels: int array (n,), class indices of the training images.
        classes: number of classes k.
        scheme: "none" (all 1), "balanced" (1 / count), "sqrt" (1 / sqrt(count)), "power"
            (1 / count^power), "effective" ((1 - beta) / (1 - beta^count), Cui et al. 2019,
            arXiv:1901.05555, eq. 2) or, for two classes, "pos_weight" (1 and count of the first /
            count of the second, as torch's BCEWithLogitsLoss takes it: not scaled).
        effective_beta: beta of "effective", in (0, 1).
        power: exponent of "power".

    Returns:
        float32 array (k,). A class without images gets 0: no image can carry its weight.

    Raises:
        UserError: "pos_weight" with other than two classes or without images of one.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if scheme == "pos_weight":
        return _pos_weight(counts)
    present = counts > 0
    weights = np.zeros(classes)
    if scheme == "none":
        weights[present] = 1.0
    elif scheme == "balanced":
        weights[present] = 1.0 / counts[present]
    elif scheme == "sqrt":
        weights[present] = 1.0 / np.sqrt(counts[present])
    elif scheme == "power":
        weights[present] = counts[present] ** -power
    elif scheme == "effective":
        weights[present] = (1 - effective_beta) / (1 - effective_beta ** counts[present])
    else:
        raise unknown_name("balancing scheme", scheme, SCHEMES)
    return (weights * counts.sum() / (weights @ counts)).astype(np.float32)


def _check_two(classes: int) -> None:
    if classes != 2:
        raise UserError(
            "Expected two classes for balance.scheme=pos_weight, the weight of the second over the "
            f"first. Received: {classes} classes. Choose another balance.scheme, or "
            "data.labels=binary."
        )


def _pos_weight(counts: np.ndarray) -> np.ndarray:
    _check_two(len(counts))
    if not counts.all():
        raise UserError(
            "Expected training images of both classes for balance.scheme=pos_weight. Received: "
            f"{int(counts[0])} of the first and {int(counts[1])} of the second. "
            "Use more images or fewer folds."
        )
    return np.array([1.0, counts[0] / counts[1]], dtype=np.float32)


def stacking_warnings(
    plan: BalancePlan,
    codes: Sequence[str],
    *,
    by: Sequence[str],
    focal_gamma: float,
    mixing: float,
) -> list[str]:
    """One sentence for each choice that pushes towards rare classes beside another one.

    The first ends with the shares that the classes now have in the loss, before focal loss and
    mixing, which have no closed form. What the predictions make of it, `evaluation.prior` says.

    Args:
        plan: tells the share that each class ends up with.
        codes: class codes of the label space.
        by: as in `plan_balance`.
        focal_gamma: of the focal loss; 0 for any other loss.
        mixing: share of images that MixUp and CutMix mix.
    """
    means = [name for name in ("weights", "sampler", "repeat") if name in by]
    if not means:
        return []
    together = " and ".join(means)
    said = []
    if len(means) > 1:
        said.append(f"{together} (balance.by) multiply: rare classes are favoured twice")
    if focal_gamma > 0:
        said.append(
            f"{together} and the focal loss (gamma {focal_gamma:g}) stack: both turn towards rare, "
            "hard images"
        )
    if mixing > 0:
        said.append(
            f"{together} and mixing ({mixing:.0%} of images by MixUp or CutMix) stack: a rare "
            "class reaches most images, each time with its weight"
        )
    if said:
        said[0] += f". {_shares(plan, codes)}"
    return [f"{sentence}." for sentence in said]


def _shares(plan: BalancePlan, codes: Sequence[str]) -> str:
    listed = ", ".join(
        f"{code} {counted:.1%} ({images:.1%} of the images)"
        for code, counted, images in zip(codes, plan.prior, plan.share, strict=True)
    )
    there = np.flatnonzero(plan.share)
    rarest, commonest = (there[pick(plan.share[there])] for pick in (np.argmin, np.argmax))
    turned = ""
    if plan.prior[rarest] > 1.01 * plan.prior[commonest]:
        turned = f": {codes[rarest]}, the rarest, outweighs {codes[commonest]}, the commonest"
    return f"Shares in the loss: {listed}{turned}"
