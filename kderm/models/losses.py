"""The losses: focal loss and cross-entropy on integer labels and logits, in float32.

Class weights are no part of a loss: they come in from outside as sample weights, so that each image
is weighted in one place. Must stay in keras.ops, so that every backend trains alike.
"""

from typing import Any

import keras
from keras import ops

from kderm.errors import UserError, unknown_name

LOSSES = ("focal", "cross_entropy")

# Below the float32 resolution of 1 - p, so it only touches an exact zero, where x**gamma has an
# infinite slope for gamma < 1.
_SMALLEST_MISS = 1e-8


@keras.saving.register_keras_serializable(package="kderm")
class FocalLoss(keras.losses.Loss):
    """Cross-entropy that turns away from what is already right: -(1 - p_t)^gamma log p_t.

    With label smoothing e the target of class c is q_c = (1 - e) [c = t] + e / k, and every class
    pays its own focal term, -sum_c q_c (1 - p_c)^gamma log p_c. gamma = 0 is cross-entropy.

    Takes labels, integers (n,) in 0..k-1, and logits (n, k); gives (n,) before the reduction, which
    is the sum of weighted losses over n. Computes in float32 whatever the precision of the model.

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
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not gamma >= 0:
            raise UserError(f"loss.gamma must be 0 or more. Received: {gamma!r}.")
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"loss.label_smoothing must be in [0, 1). Received: {label_smoothing!r}."
            )
        self.gamma = float(gamma)
        self.label_smoothing = float(label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, float32 (n,), from labels (n,) and logits (n, k)."""
        if len(y_true.shape) != 1 or len(y_pred.shape) != 2:
            raise ValueError(
                "Expected labels (n,) and logits (n, k). "
                f"Received: {tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        classes = y_pred.shape[-1]
        target = ops.one_hot(ops.cast(y_true, "int32"), classes, dtype="float32")
        target = target * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        log_p = ops.log_softmax(y_pred, axis=-1)
        if self.gamma == 0:
            return -ops.sum(target * log_p, axis=-1)
        miss = ops.maximum(-ops.expm1(log_p), _SMALLEST_MISS)  # 1 - p, without cancellation
        return -ops.sum(target * ops.power(miss, self.gamma) * log_p, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for a saved model."""
        return {
            "gamma": self.gamma,
            "label_smoothing": self.label_smoothing,
            "name": self.name,
            "reduction": self.reduction,
        }


def build_loss(name: str, *, gamma: float = 2.0, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """The loss called `name`: "focal" with `gamma`, or "cross_entropy", which has no gamma.

    Raises:
        UserError: an unknown name, or a value out of range.
    """
    if name == "focal":
        return FocalLoss(gamma, label_smoothing)
    if name == "cross_entropy":
        return FocalLoss(0.0, label_smoothing, name="cross_entropy")
    raise unknown_name("loss", name, LOSSES)
