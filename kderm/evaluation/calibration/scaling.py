"""Calibration mended: temperature and vector scaling of probabilities, fitted on held-out images.

Fitted on the out-of-fold table by `kderm.ensemble.bundle`, frozen there, and applied by
`ensemble-predict` to the ensemble's answer. `nested_calibration` gives the table that a report may
quote: no image's probabilities were scaled by a fit that saw it. Works on log-probabilities, so it
needs no model.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import log_softmax, softmax

from kderm.counting import counted
from kderm.errors import UserError
from kderm.evaluation.metrics import SMALLEST
from kderm.evaluation.predictions import Predictions

Kind = Literal["temperature", "vector"]
# Classes that are told apart without an error would drive the sharpness to infinity, and noise
# would drive it to zero; what is fitted stays within this, both ways.
SHARPEST = 10.0
LARGEST_SHIFT = 10.0
AT_BOUND = 1e-3


@dataclass(frozen=True)
class Scaling:
    """Calibrated probabilities are softmax(sharpness * log(p) + shift).

    Attributes:
        kind: "temperature" (one sharpness 1/T for all classes, no shift: the order of an image's
            classes stays) or "vector" (a sharpness and a shift for each class).
        sharpness: float for each class, all equal for a temperature.
        shift: float for each class, mean 0; all 0 for a temperature.
    """

    kind: Kind
    sharpness: tuple[float, ...]
    shift: tuple[float, ...]

    @property
    def temperature(self) -> float | None:
        """T: above 1 the model was too sure, below 1 not sure enough; None for vector scaling."""
        return 1 / self.sharpness[0] if self.kind == "temperature" else None

    @property
    def at_bound(self) -> bool:
        """Whether the fit ran into its bounds, as it does where no image is wrong."""
        steep, shift = np.abs(np.log(self.sharpness)), np.abs(self.shift)
        return bool(
            (steep > np.log(SHARPEST) - AT_BOUND).any() or (shift > LARGEST_SHIFT - AT_BOUND).any()
        )

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.kind == "vector":
            return "vector scaling"
        direction = "less sure" if self.temperature >= 1 else "surer"
        return f"temperature {self.temperature:.3f} (answers become {direction})"

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 (n, k), rows sum to 1: `probabilities` (n, k) calibrated; NaN rows stay NaN."""
        logits = log_probabilities(probabilities)
        if logits.shape[1] != len(self.sharpness):
            raise UserError(
                f"This calibration was fitted on {len(self.sharpness)} classes. Received "
                f"probabilities of {logits.shape[1]}. Use predictions of the same label space."
            )
        return softmax(logits * np.array(self.sharpness) + np.array(self.shift), axis=1)

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        return {"kind": self.kind, "sharpness": list(self.sharpness), "shift": list(self.shift)}

    @classmethod
    def from_dict(cls, data: dict) -> "Scaling":
        """The scaling that `to_dict` described."""
        return cls(data["kind"], tuple(data["sharpness"]), tuple(data["shift"]))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """float64 (n, k): the logarithm, where a probability of zero counts as the smallest one."""
    return np.log(np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1))


def fit_temperature(probabilities: np.ndarray, y: np.ndarray) -> Scaling:
    """The temperature with the lowest log-loss.

    Log-loss is convex in 1/T, so what is found is the lowest. Source: Guo et al. 2017,
    arXiv:1706.04599, section 4.2. Differs: on log-probabilities, which equal the logits but for a
    constant an image that the softmax removes.

    Args:
        probabilities: float (n, k), rows sum to 1; of images that the model did not train on.
        y: int (n,), index into the label space's codes.
    """
    logits, y = _checked(probabilities, y)

    def loss(log_sharpness: float) -> float:
        return _log_loss(logits * np.exp(log_sharpness), y)

    bound = np.log(SHARPEST)
    from scipy.optimize import minimize_scalar  # applying a calibration needs none of it

    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    # Where the loss is flat the search stops anywhere: flat all over means that nothing is to be
    # changed, flat only far out that the bound is the answer.
    best = min((0.0, bound, -bound, found.x), key=loss)
    k = logits.shape[1]
    return Scaling("temperature", (float(np.exp(best)),) * k, (0.0,) * k)


def fit_vector(probabilities: np.ndarray, y: np.ndarray) -> Scaling:
    """A sharpness and a shift for each class, with the lowest log-loss.

    It moves probability between classes, so it also mends what class weights did to the prior, and
    with it changes the predicted class of some images. A class without an image gets the largest
    shift down. Source: Guo et al. 2017, arXiv:1706.04599, section 4.2 (vector scaling).

    Args:
        probabilities: float (n, k), rows sum to 1; of images that the model did not train on.
        y: int (n,), index into the label space's codes.
    """
    logits, y = _checked(probabilities, y)
    n, k = logits.shape
    truth = np.zeros((n, k))
    truth[np.arange(n), y] = 1

    def loss_and_slope(values: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = log_softmax(logits * values[:k] + values[k:], axis=1)
        error = (np.exp(scaled) - truth) / n
        slope = np.concatenate([(error * logits).sum(axis=0), error.sum(axis=0)])
        return -float(scaled[np.arange(n), y].mean()), slope

    start = np.concatenate(
        [np.full(k, fit_temperature(probabilities, y).sharpness[0]), np.zeros(k)]
    )
    bounds = [(1 / SHARPEST, SHARPEST)] * k + [(-LARGEST_SHIFT, LARGEST_SHIFT)] * k
    from scipy.optimize import minimize

    found = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return Scaling("vector", tuple(found.x[:k].tolist()), tuple(found.x[k:].tolist()))


FITS = {"temperature": fit_temperature, "vector": fit_vector}


def fit_scaling(predictions: Predictions, kind: Kind = "temperature") -> Scaling:
    """The scaling of `kind` fitted on all of `predictions`; for a bundle, not for a report."""
    return FITS[kind](predictions.probabilities, predictions.y)


def scaled(predictions: Predictions, scaling: Scaling) -> Predictions:
    """`predictions` with their probabilities calibrated by `scaling`."""
    return with_probabilities(predictions, scaling.apply(predictions.probabilities))


def with_probabilities(predictions: Predictions, probabilities: np.ndarray) -> Predictions:
    """The same table with other probabilities, float (n, k) in the table's own row order."""
    columns = dict(zip(predictions.labels.columns, np.asarray(probabilities).T, strict=True))
    return replace(predictions, table=predictions.table.assign(**columns))


def nested_calibration(predictions: Predictions, kind: Kind = "temperature") -> Predictions:
    """Each fold calibrated by a fit on the other folds, so that numbers of it are honest.

    Args:
        predictions: an out-of-fold table of two folds or more.
        kind: which scaling.

    Raises:
        UserError: no folds, or only one.
    """
    probabilities, y, folds = predictions.probabilities, predictions.y, predictions.folds
    present = np.unique(folds)
    if not predictions.has_folds or len(present) < 2:
        received = counted(len(present), "fold") if predictions.has_folds else "no folds"
        raise UserError(
            "Nested calibration fits on the other folds, so it needs an out-of-fold table of two "
            f"folds or more. Received: {received}. Use the out-of-fold table of a finished run."
        )
    result = np.empty_like(probabilities)
    for fold in present:
        inside = folds == fold
        result[inside] = FITS[kind](probabilities[~inside], y[~inside]).apply(probabilities[inside])
    return with_probabilities(predictions, result)


def _checked(probabilities: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, y = np.asarray(probabilities), np.asarray(y)
    if probabilities.ndim != 2 or y.shape != probabilities.shape[:1] or len(y) == 0:
        raise ValueError(
            "Expected probabilities (n, k) and y (n,) with n >= 1. "
            f"Received: {probabilities.shape} and {y.shape}"
        )
    return log_probabilities(probabilities), y


def _log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(y)), y].mean())
