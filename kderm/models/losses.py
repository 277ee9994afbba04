"""The losses: cross-entropy, focal, two-class and LDAM, on labels or targets and logits.

Targets are what `kderm.data.batches` hands over: float32 (n, k), a row the share of each class
times that class's weight, so that an image is weighted in one place, mixed or not. Integer labels
(n,) are the same without weights. Must stay in keras.ops, so that every backend trains alike.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kderm.errors import UserError, unknown_name

LOSSES = ("cross_entropy", "focal", "binary_cross_entropy", "ldam")

# Below the float32 resolution of 1 - p, so it only touches an exact zero, where x**gamma has an
# infinite slope for gamma < 1.
_SMALLEST_MISS = 1e-8


class _ClassLoss(keras.losses.Loss):
    """A loss that each class pays on its own: sum_c q_c l_c(logits), then times the row's weight.

    A row of targets t has the weight w = sum_c t_c and the shares t / w; with label smoothing e,
    q = (1 - e) t / w + e / k. The weight is a factor on the whole row, as a sample weight would be.
    Takes logits (n, k) and labels, integers (n,) in 0..k-1, or targets, float (n, k); gives (n,)
    before the reduction, the sum over n. Float32 whatever the precision of the model.
    """

    def __init__(self, label_smoothing: float, *, name: str, reduction: str) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"loss.label_smoothing must be in [0, 1). Received: {label_smoothing!r}."
            )
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, float32 (n,)."""
        classes = y_pred.shape[-1]
        if len(y_pred.shape) != 2 or not _is_row_of(y_true, classes):
            raise ValueError(
                "Expected labels (n,) or targets (n, k), and logits (n, k). "
                f"Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        shares, weight = _shares_and_weight(y_true, classes)
        shares = shares * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        loss = self.of_shares(shares, y_pred)
        return loss if weight is None else loss * weight

    def of_shares(self, shares: Any, logits: Any) -> Any:
        """sum_c q_c l_c, float32 (n,), of shares q and logits, both float32 (n, k)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for a saved model."""
        return {
            "label_smoothing": self.label_smoothing,
            "name": self.name,
            "reduction": self.reduction,
        }


def _is_row_of(y_true: Any, classes: int) -> bool:
    # TensorFlow may not know the length of an axis while it traces.
    return len(y_true.shape) == 1 or (
        len(y_true.shape) == 2 and y_true.shape[-1] in (classes, None)
    )


def _shares_and_weight(y_true: Any, classes: int) -> tuple[Any, Any]:
    """What share of each row is of each class (n, k), and the rows' weights (n,) or None."""
    if len(y_true.shape) == 1:
        return ops.one_hot(ops.cast(y_true, "int32"), classes, dtype="float32"), None
    weight = ops.sum(y_true, axis=-1)
    # A row of one class is divided by itself, so its share is exactly 1.
    return y_true / ops.where(weight > 0, weight, 1.0)[:, None], weight


@keras.saving.register_keras_serializable(package="kderm")
class FocalLoss(_ClassLoss):
    """Cross-entropy that turns away from what is already right: -(1 - p_t)^gamma log p_t.

    With shares q every class pays its own focal term, -sum_c q_c (1 - p_c)^gamma log p_c. gamma = 0
    is cross-entropy.

    Source: Lin et al. 2017, arXiv:1708.02002, eq. 4. Differs: softmax, not sigmoid; no alpha.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        *,
        name: str = "focal",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        """Args:
        gamma: focusing parameter, 0 or more.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        name: of the loss in logs.
        reduction: as in `keras.losses.Loss`.
        """
        super().__init__(label_smoothing, name=name, reduction=reduction)
        if not gamma >= 0:
            raise UserError(f"loss.gamma must be 0 or more. Received: {gamma!r}.")
        self.gamma = float(gamma)

    def of_shares(self, shares: Any, logits: Any) -> Any:
        """-sum_c q_c (1 - p_c)^gamma log p_c, float32 (n,)."""
        log_p = ops.log_softmax(logits, axis=-1)
        if self.gamma == 0:
            return -ops.sum(shares * log_p, axis=-1)
        miss = ops.maximum(-ops.expm1(log_p), _SMALLEST_MISS)  # 1 - p, without cancellation
        return -ops.sum(shares * ops.power(miss, self.gamma) * log_p, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for a saved model."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="kderm")
class BinaryCrossEntropy(_ClassLoss):
    """Cross-entropy of two classes by the difference d of their logits, second minus first.

    q_0 softplus(d) + q_1 softplus(-d): the sigmoid cross-entropy of one logit d. Class weights
    (1, pos_weight) make it the weighted form, pos_weight on the terms of the second class.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        *,
        name: str = "binary_cross_entropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        """Args:
        label_smoothing: share of the target spread over both classes, in [0, 1).
        name: of the loss in logs.
        reduction: as in `keras.losses.Loss`.
        """
        super().__init__(label_smoothing, name=name, reduction=reduction)

    def of_shares(self, shares: Any, logits: Any) -> Any:
        """q_0 softplus(d) + q_1 softplus(-d), float32 (n,).

        Raises:
            UserError: other than two classes.
        """
        if logits.shape[-1] != 2:
            raise UserError(
                "loss.name=binary_cross_entropy needs a label space of two classes. Received: "
                f"{logits.shape[-1]} classes. Set data.labels=binary, or loss.name=cross_entropy."
            )
        difference = logits[:, 1] - logits[:, 0]
        return shares[:, 0] * ops.softplus(difference) + shares[:, 1] * ops.softplus(-difference)


@keras.saving.register_keras_serializable(package="kderm")
class LdamLoss(_ClassLoss):
    """Cross-entropy that a class wins only by a margin, the wider the rarer the class.

    l_c is the cross-entropy of class c after margin_c is taken off its logit, with
    margin_c = margin (smallest count / count_c)^(1/4), so `margin` is the rarest class's.

    Source: Cao et al. 2019, arXiv:1906.07413, eq. 10 and 12. Differs: plain logits, so margins are
    in their unit (the authors take cosines, times 30); no deferred re-weighting.
    """

    def __init__(
        self,
        counts: Sequence[int],
        margin: float = 0.5,
        *,
        name: str = "ldam",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        """Args:
        counts: training images of each class, in label-space order; a class without any has no
            margin and no say in the scale of the others.
        margin: largest margin, above 0.
        name: of the loss in logs.
        reduction: as in `keras.losses.Loss`.
        """
        super().__init__(0.0, name=name, reduction=reduction)
        if not margin > 0:
            raise UserError(f"loss.margin must be above 0. Received: {margin!r}.")
        self.counts = [int(count) for count in counts]
        self.margin = float(margin)
        present = np.array(self.counts, np.float64)
        rarity = np.where(present > 0, np.maximum(present, 1.0) ** -0.25, 0.0)
        self.margins = (self.margin * rarity / rarity.max()).astype(np.float32)

    def of_shares(self, shares: Any, logits: Any) -> Any:
        """sum_c q_c l_c, float32 (n,)."""
        if logits.shape[-1] != len(self.counts):
            raise ValueError(
                f"Expected logits of {len(self.counts)} classes. Received: {tuple(logits.shape)}."
            )
        # (n, k, k): row c holds the logits as class c has to face them.
        handicapped = logits[:, None, :] - ops.convert_to_tensor(np.diag(self.margins)[None])
        own = logits - ops.convert_to_tensor(self.margins)
        return ops.sum(shares * (ops.logsumexp(handicapped, axis=-1) - own), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for a saved model."""
        config = super().get_config() | {"counts": self.counts, "margin": self.margin}
        del config["label_smoothing"]
        return config


def build_loss(
    name: str,
    *,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    margin: float = 0.5,
    counts: Sequence[int] | None = None,
) -> keras.losses.Loss:
    """The loss called `name`.

    Args:
        name: one of `LOSSES`.
        gamma: focusing parameter of "focal".
        label_smoothing: share of the target spread over all classes; not with "ldam".
        margin: largest margin of "ldam".
        counts: training images of each class, in label-space order; "ldam" needs them.

    Raises:
        UserError: an unknown name, or a value out of range.
    """
    if name == "focal":
        return FocalLoss(gamma, label_smoothing)
    if name == "cross_entropy":
        return FocalLoss(0.0, label_smoothing, name="cross_entropy")
    if name == "binary_cross_entropy":
        return BinaryCrossEntropy(label_smoothing)
    if name == "ldam":
        if label_smoothing:
            raise UserError(
                "loss.name=ldam has margins in place of smoothed labels: expected "
                f"loss.label_smoothing=0. Received: {label_smoothing!r}."
            )
        if counts is None:
            raise ValueError("LDAM needs the counts of the classes. Received: None.")
        return LdamLoss(counts, margin)
    raise unknown_name("loss", name, LOSSES)
