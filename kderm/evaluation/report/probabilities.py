"""Whether the probabilities mean what they say: calibration, and how often they expect a class."""

from functools import partial

from kderm.evaluation.calibration.scaling import Kind
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report import figures
from kderm.evaluation.report.document import (
    Block,
    Estimate,
    Figure,
    Heading,
    Note,
    Section,
    Share,
    Table,
    Text,
)
from kderm.evaluation.report.prior import prior_sentence, prior_shift
from kderm.evaluation.report.wording import ranged

_NAMES = {"malignant": "it is malignant"}


def calibration_section(predictions: Predictions, found: dict, kind: Kind) -> Section:
    """Reliability, calibration errors, and the prior of the predictions.

    Args:
        predictions: labelled predictions.
        found: the content of metrics.json.
        kind: of the scaling that new images get.
    """
    numbers = found["calibration"]
    tendency = tendency_words(found["calibration_report"]["top_label"]["gap"])
    words = (
        f"The first choice gets a probability of {numbers['mean_confidence']:.3f} on average and "
        f"is right in {numbers['share_right']:.3f} of the images{tendency}. "
        f"Expected calibration error {numbers['ece']:.3f} ({numbers['bins']} equal-width bins, "
        "those of the figure; the table below has bins of equal mass), "
        f"Brier score {numbers['brier']:.3f} (0 to 2), log-loss {numbers['log_loss']:.3f}."
    )
    panels = 2 if predictions.labels.malignant else 1
    shift = prior_shift(predictions)
    rows = [
        [row.code, Share(row.share), Share(row.mean_probability), float(row.ratio)]
        for row in shift.itertuples()
    ]
    prior_words = (
        prior_sentence(shift)
        or "The ratio says how often the probabilities expect a class against how often it comes."
    )
    return Section(
        "Calibration",
        [
            Text(words),
            Figure(
                "reliability",
                "Reliability diagram, equal-width bins: predicted probability against what came "
                "true; the area of a point grows with the images of its bin",
                partial(figures.plot_reliability, predictions=predictions),
                430 * panels,
                panels=panels,
            ),
            *_events(found["calibration_report"]),
            *_scaling(found["calibration_report"], found["classes"], kind),
            Heading("Prior of the predictions"),
            Text(prior_words),
            Table(["class", "share of the images", "mean probability", "ratio"], rows, "prior"),
        ],
    )


def tendency_words(gap: dict) -> str:
    """Whether the first choice is too sure, if that is more than chance; "" without an interval.

    Args:
        gap: {value, low, high} of the mean probability less the share that is right.
    """
    if gap["low"] is None:
        return ""
    if gap["low"] <= 0 <= gap["high"]:
        return f": no overconfidence or underconfidence beyond chance (gap {ranged(gap)})"
    tendency = "overconfident" if gap["value"] > 0 else "underconfident"
    return f": {tendency} (gap {ranged(gap)})"


def _events(report: dict) -> list[Block]:
    """Calibration of each probability by itself."""
    events = {"first choice is right": report["top_label"]}
    classes = report["classes"].values()
    # A target that is one class alone has that class's row.
    targets = {name: own for name, own in report["targets"].items() if own not in classes}
    events |= {_NAMES.get(name, name): own for name, own in targets.items()}
    events |= {f"class {code}": own for code, own in report["classes"].items()}
    words = (
        "Calibration error is the mean distance of probability and frequency, here over "
        f"{report['bins']} bins of equal mass, so it differs from that of the equal-width "
        "bins above; beside it stands "
        "the most that a calibrated model would show by chance alone, were the same groups drawn "
        "anew (97.5th percentile): up to there, its interval begins at zero. A slope "
        "below 1 says that probabilities are too extreme, a gap above 0 that they are too high."
    )
    header = ["probability that", "gap", "calibration error", "by chance", "slope", "intercept"]
    rows = [
        [
            name,
            Estimate.of(own["gap"]),
            Estimate.of(own["ece_mass"]),
            own["ece_mass_by_chance"],
            Estimate(None) if own["slope"] is None else Estimate.of(own["slope"]),
            Estimate(None) if own["intercept"] is None else Estimate.of(own["intercept"]),
        ]
        for name, own in events.items()
    ]
    return [Heading("By probability"), Text(words), Table(header, rows, "calibration")]


def _scaling(report: dict, codes: list[str], kind: Kind) -> list[Block]:
    """What temperature and vector scaling change, and which of them new images get."""
    scaling = report["scaling"]
    if scaling is None:
        return []
    words = (
        f"{scaling_words(scaling[kind]['fitted'], codes)} In the table each fold is scaled by a "
        "fit on the other folds, so that no number has seen its own images. The difference of "
        "log-loss is to the first row; below 0 the scaling is better."
    )
    header = ["probabilities", "log-loss", "difference", "Brier score", "calibration error"]
    header += ["mean over classes"]
    names = {"raw": "as they are", "temperature": "temperature", "vector": "vector scaling"}
    rows = [
        [
            said,
            scaling[kind]["log_loss"],
            Estimate(None)
            if kind == "raw"
            else Estimate.of(scaling[kind]["difference"]["log_loss"]),
            *(scaling[kind][name] for name in ("brier", "ece", "classwise_ece")),
        ]
        for kind, said in names.items()
    ]
    better = better_scaling(scaling, kind)
    notes = [Note("warn", better)] if better else []
    return [Heading("Scaling"), Text(words), *notes, Table(header, rows, "scaling")]


def better_scaling(scaling: dict, kind: Kind) -> str:
    """That vector scaling would help where the applied temperature does not; else "".

    Args:
        scaling: of `calibration_report`, by out-of-fold fits.
        kind: of the scaling that new images get.
    """
    raw, own, vector = (scaling[name]["log_loss"] for name in ("raw", kind, "vector"))
    if kind == "vector" or own < raw or vector >= raw:
        return ""
    gain = ranged(scaling["vector"]["difference"]["log_loss"])
    return (
        f"**Temperature scaling does not lower the log-loss** ({raw:.3f} as they are, {own:.3f} "
        f"scaled); vector scaling does ({vector:.3f}, difference {gain}). "
        "`predict.calibration=vector` applies it to new images; its price: the predicted class of "
        "an image may change."
    )


def scaling_words(fitted: dict, codes: list[str]) -> str:
    """Which scaling the probabilities of new images get, with its values.

    Args:
        fitted: `Scaling.to_dict`.
        codes: of the classes, in the order of its lists.
    """
    if fitted["kind"] == "temperature":
        value = fitted["temperature"]
        meaning = "above 1: the probabilities were overconfident; below 1: underconfident"
        return (
            f"The probabilities of new images get **temperature scaling with T = {value:.3f}**, "
            f"fitted on all folds ({meaning}); it changes no image's first choice."
        )
    values = ", ".join(
        f"{code} {factor:.2f} and {shift:+.2f}"
        for code, factor, shift in zip(codes, fitted["sharpness"], fitted["shift"], strict=True)
    )
    return (
        "The probabilities of new images get **vector scaling**, fitted on all folds: each class's "
        f"log-probability times a factor, plus a shift ({values}); it may change an image's first "
        "choice."
    )
