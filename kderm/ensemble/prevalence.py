"""What a user says of the shares of the classes where the answers are to hold, read and applied.

`ensemble-predict --prevalence mel=0.02` is read here before anything is predicted, against the
bundle's fact `prior`; `kderm.ensemble.result_table` corrects the answers by it. Sees no image and
no model.
"""

import math
from dataclasses import dataclass

import numpy as np

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.rounding import significant
from kderm.errors import UserError, nearest_names
from kderm.evaluation.calibration.prevalence import SUM_TOLERANCE, stated_prior, to_prevalence
from kderm.evaluation.decisions.operating_points import MALIGNANT
from kderm.labels import LabelSpace


@dataclass(frozen=True)
class Prevalence:
    """The shares of the classes in the place that the answers are corrected to.

    Attributes:
        stated: what the user said, by class code or "malignant".
        codes: the class codes, in label-space order.
        prior_from: share of each class that the bundle's answers stand for; sums to 1.
        prior_to: share of each class in the place meant; sums to 1.
    """

    stated: dict[str, float]
    codes: tuple[str, ...]
    prior_from: tuple[float, ...]
    prior_to: tuple[float, ...]

    @property
    def words(self) -> str:
        """What was stated, for people."""
        return ", ".join(f"{name} {share:.4g}" for name, share in self.stated.items())

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 (n, k): calibrated `probabilities` (n, k) corrected; NaN rows stay NaN."""
        answered = np.isfinite(probabilities).all(axis=1)
        corrected = np.full(probabilities.shape, np.nan)
        corrected[answered] = significant(
            to_prevalence(
                probabilities[answered], np.array(self.prior_from), np.array(self.prior_to)
            )
        )
        return corrected

    def to_dict(self) -> dict:
        """Plain data for JSON, what the folder of predictions keeps."""
        pairs = {"corrected_to": self.prior_to, "corrected_from": self.prior_from}
        shares = {
            name: dict(zip(self.codes, significant(np.array(prior)).tolist(), strict=True))
            for name, prior in pairs.items()
        }
        return {"stated": self.stated, **shares}


def stated_prevalence(bundle: Bundle, text: str) -> Prevalence:
    """The prevalence that `text` states, such as "mel=0.02,bcc=0.03" or "malignant=0.05".

    The classes that nothing is said of keep the proportions of the run's own images.

    Raises:
        UserError: a text that states no shares, or a bundle without a prior.
    """
    labels, prior = bundle.labels, bundle.prior
    if prior is None:
        raise UserError(
            "A correction to a prevalence starts from the shares of the classes that the "
            f"ensemble's answers stand for. Received: the bundle of {bundle.facts.run}, written by "
            f"kderm {bundle.facts.kderm}, which does not hold them. Write it again from the run's "
            f"tables: python run.py evaluate {bundle.directory}"
        )
    stated = _stated(text, labels)
    _check_sum(stated, text, labels, prior.images)
    events = [(_classes(name, labels), share) for name, share in stated.items()]
    shares = np.array(prior.images)
    for name, (indices, _) in zip(stated, events, strict=True):
        if not shares[indices].sum() > 0:
            raise _refusal(
                f"{name}, of which the run {bundle.facts.run} has no image to start from", text
            )
    target = stated_prior(shares, events)
    return Prevalence(stated, labels.codes, tuple(prior.answers), tuple(target.tolist()))


def _stated(text: str, labels: LabelSpace) -> dict[str, float]:
    """Class code or "malignant" to share, as `text` says."""
    stated: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not number:
            raise _refusal(f"{part.strip()!r}, which is no CODE=SHARE", text)
        code = _name(name, labels)
        if code is None:
            known = [*labels.codes, *([MALIGNANT] if labels.malignant else [])]
            close = labels.nearest(name) or nearest_names(name, known)
            hint = f"nearest: {', '.join(close)}" if close else f"known: {', '.join(known)}"
            raise _refusal(f"{name!r}, which is no class of {labels.name} ({hint})", text)
        if code in stated:
            raise _refusal(f"{code} twice", text)
        try:
            share = float(number)
        except ValueError:
            raise _refusal(f"{number!r} for {name}, which is not a number", text) from None
        if not math.isfinite(share) or not 0 < share < 1:
            raise _refusal(f"{number} for {name}, which is not between 0 and 1", text)
        stated[code] = share
    inside = [name for name in stated if name in labels.malignant]
    if MALIGNANT in stated and MALIGNANT not in labels.codes and inside:
        raise _refusal(f"malignant together with {', '.join(inside)}, which is a part of it", text)
    return stated


def _name(text: str, labels: LabelSpace) -> str | None:
    """The code that `text` stands for, or "malignant" for all malignant classes."""
    code = labels.resolve(text)
    if code is None and text.lower() == MALIGNANT and labels.malignant:
        return MALIGNANT
    return code


def _classes(name: str, labels: LabelSpace) -> list[int]:
    return [labels.index(name)] if name in labels.codes else list(labels.malignant_indices)


def _check_sum(
    stated: dict[str, float], text: str, labels: LabelSpace, images: tuple[float, ...]
) -> None:
    """Refuse shares that leave no room for the classes that nothing is said of."""
    total = sum(stated.values())
    told = {index for name in stated for index in _classes(name, labels)}
    rest = [code for i, code in enumerate(labels.codes) if i not in told and images[i] > 0]
    if total > 1 + SUM_TOLERANCE:
        raise _refusal(f"shares that add up to {total:.4g}, more than 1", text)
    if rest and not total < 1:
        raise _refusal(
            f"shares that add up to {total:.4g}, which leaves nothing for {', '.join(rest)}", text
        )
    if not rest and abs(total - 1) > SUM_TOLERANCE:
        raise _refusal(
            f"shares of all classes that add up to {total:.4g}, not to 1; leave one class out for "
            "it to take the rest",
            text,
        )


def _refusal(received: str, text: str) -> UserError:
    return UserError(
        "Expected after --prevalence the shares of classes where the answers shall hold, each "
        "between 0 and 1, together at most 1, such as mel=0.02 or mel=0.02,bcc=0.03 or "
        f"malignant=0.05 (0.02 is 2 %). Received: {received} (in {text!r})."
    )
