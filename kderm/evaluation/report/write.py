"""The report, rebuilt from the predictions table alone: metrics.json, report.md and figures/.

Reads a `Predictions` table and, where they exist, the training histories. Must stay free of Keras,
so that a report can be rebuilt anywhere, years later, without a model or an image.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from kderm import atomic
from kderm.errors import UserError
from kderm.evaluation.intervals import Interval
from kderm.evaluation.measure import measure, without_nan
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report import figures
from kderm.evaluation.report.prior import prior_sentence, prior_shift
from kderm.evaluation.report.provenance import FOLD_COLUMNS, WARNINGS, provenance, warning_quotes
from kderm.evaluation.report.sources import score_by_source, sources_sentence

HEADLINE = {
    "macro_auc": "Macro AUC (one against the rest)",
    "mel_auc": "Melanoma AUC",
    "malignant_auc": "Malignant AUC",
    "balanced_accuracy": "Balanced accuracy (ISIC)",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy",
}
FIGURES = {
    "roc": "ROC curve of each class",
    "precision_recall": "Precision-recall curve of each class",
    "confusion": "Confusion matrix",
    "reliability": "Reliability diagram",
    "training_curves": "Training curves of all folds",
}
MONITORS = ("macro_auc", "balanced_accuracy", "macro_f1")
UNDEFINED = "–"


def write_report(
    predictions: Predictions,
    directory: Path,
    *,
    title: str,
    histories: dict[int, pd.DataFrame] | None,
    facts: dict[str, object],
    checkpoint: str | None,
    monitor: str | None,
    pictures: Mapping[str, Path] | None = None,
    resamples: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write metrics.json, report.md and figures/*.png into `directory`.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        directory: where to write; made if absent.
        title: heading of the report.
        histories: fold to history table, for the training curves; None or empty without.
        facts: printed as a small table (config, preset, views, device, seconds, versions, ...);
            the entry "synthetic data", if there and true, becomes a warning at the top, and so
            does each sentence of the list "warnings".
        checkpoint: how each fold's checkpoint was chosen: "best", "last", "stopped" (the last one
            before early stopping on the held-out fold), or None if unknown.
        monitor: the metric that chose the checkpoint; also the one drawn by epoch, unless it is
            the loss, which is drawn anyway.
        pictures: title -> a picture below `directory` that is shown in a section of its own.
        resamples: bootstrap resamples.
        progress: called with (resamples done, resamples).

    Returns:
        The content of metrics.json.

    Raises:
        UserError: a history lacks a column.
    """
    directory = Path(directory)
    histories = {fold: table for fold, table in (histories or {}).items() if len(table)}
    for fold, history in histories.items():
        _check_history(fold, history, monitor)
    found = measure(predictions, checkpoint=checkpoint, resamples=resamples, progress=progress)
    drawn = _draw(predictions, directory / "figures", found, histories, monitor)
    parts = [
        f"# {title}",
        *warning_quotes(predictions, found, facts),
        provenance(predictions, found, checkpoint, monitor),
        _headline(found),
        _fold_table(found),
        _sources(predictions, found, resamples),
        _class_table(predictions, found),
        _picture(drawn, "roc", "precision_recall"),
        _confusion(predictions, found, drawn),
        _malignant(predictions, found),
        _calibration(found, drawn),
        _prior(predictions),
        _training(drawn),
        *_pictures(directory, pictures or {}),
        _facts(facts),
    ]
    atomic.write_text(directory / "report.md", "\n\n".join(part for part in parts if part) + "\n")
    atomic.write_json(directory / "metrics.json", found)
    return found


def _check_history(fold: int, history: pd.DataFrame, monitor: str | None) -> None:
    needed = ["epoch", "phase", "loss", "val_loss", f"val_{_drawn_metric(monitor)}", "chosen"]
    missing = [column for column in needed if column not in history.columns]
    if missing:
        raise UserError(
            f"The history of fold {fold} needs the columns {', '.join(needed)}. "
            f"Missing: {', '.join(missing)}. Received: {', '.join(map(str, history.columns))}."
        )


def _drawn_metric(monitor: str | None) -> str:
    return monitor if monitor in MONITORS else MONITORS[0]


def _draw(
    predictions: Predictions,
    directory: Path,
    found: dict,
    histories: dict[int, pd.DataFrame],
    monitor: str | None,
) -> set[str]:
    """Draw what the data carry, remove what an earlier report drew beyond that; names drawn."""
    paths = {name: directory / f"{name}.png" for name in FIGURES}
    drawn = {"precision_recall", "confusion", "reliability"}
    if any(own["auc"]["value"] is not None for own in found["per_class"].values()):
        drawn.add("roc")
        figures.plot_roc(paths["roc"], predictions, _intervals(found, "auc"))
    figures.plot_precision_recall(
        paths["precision_recall"], predictions, _intervals(found, "average_precision")
    )
    figures.plot_confusion(paths["confusion"], predictions)
    figures.plot_reliability(paths["reliability"], predictions)
    if histories:
        drawn.add("training_curves")
        figures.plot_training_curves(paths["training_curves"], histories, _drawn_metric(monitor))
    for name in FIGURES.keys() - drawn:
        paths[name].unlink(missing_ok=True)
    return drawn


def _intervals(found: dict, name: str) -> dict[str, Interval]:
    return {
        code: Interval(own[name]["low"], own[name]["high"])
        for code, own in found["per_class"].items()
        if own[name]["low"] is not None
    }


def _headline(found: dict) -> str:
    has_folds = bool(found["folds"])
    head = ["metric", "pooled (95 % interval)"] + ["mean ± sd over folds"] * has_folds
    rows = []
    for name, text in HEADLINE.items():
        if name in found["pooled"]:
            mean = [_mean_sd(found["fold_mean"][name])] if has_folds else []
            rows.append([text, _ranged(found["pooled"][name]), *mean])
    return _table(head, rows)


def _fold_table(found: dict) -> str:
    if not found["folds"]:
        return ""
    names = [name for name in FOLD_COLUMNS if name in found["pooled"]]
    head = ["fold", "images", "groups", *(FOLD_COLUMNS[name] for name in names)]
    rows = [
        [fold["fold"], fold["n_images"], fold["n_groups"], *(_number(fold[name]) for name in names)]
        for fold in found["folds"]
    ]
    means = (_mean_sd(found["fold_mean"][name]) for name in names)
    rows.append(["mean ± sd", "", "", *means])
    return "## Folds\n\n" + _table(head, rows)


def _sources(predictions: Predictions, found: dict, resamples: int) -> str:
    scores = score_by_source(predictions, resamples)
    if not scores:
        return ""
    rows = [
        [
            score.source,
            score.images,
            score.groups,
            _ranged(
                without_nan(
                    {
                        "value": score.macro_auc,
                        "low": score.interval.low,
                        "high": score.interval.high,
                    }
                )
            ),
        ]
        for score in scores
    ]
    words = sources_sentence(scores, found["pooled"]["macro_auc"]["value"] or 0.0)
    table = _table(["source", "images", "groups", "macro AUC within it"], rows)
    return "## Sources\n\n" + (f"> **Sources.** {words}\n\n" if words else "") + table


def _class_table(predictions: Predictions, found: dict) -> str:
    head = ["class", "n", "AUC", "average precision", "sensitivity", "specificity", "PPV", "F1"]
    columns = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "f1")
    with_interval = {"auc", "sensitivity"}
    rows = []
    for code, full_name in zip(predictions.labels.codes, predictions.labels.names, strict=True):
        own = found["per_class"][code]
        cells = (
            _ranged(own[name]) if name in with_interval else _number(own[name]["value"])
            for name in columns
        )
        name = code if full_name == code else f"{code} ({full_name})"
        rows.append([name, own["n"], *cells])
    words = (
        "One class against the rest. Sensitivity, specificity, PPV and F1 are those of the class "
        "with the highest probability."
    )
    return "## Classes\n\n" + words + "\n\n" + _table(head, rows)


def _confusion(predictions: Predictions, found: dict, drawn: set[str]) -> str:
    codes = predictions.labels.codes
    rows = [[f"**{code}**", *row] for code, row in zip(codes, found["confusion"], strict=True)]
    table = _table(["true \\ predicted", *codes], rows)
    return "## Confusion\n\n" + _picture(drawn, "confusion") + "\n\n" + table


def _malignant(predictions: Predictions, found: dict) -> str:
    if not predictions.labels.malignant:
        return ""
    point = found["malignant"]
    codes = " + ".join(predictions.labels.malignant)
    start = f"## Malignant or benign\n\nThe malignant score is the probability of {codes}. "
    if point["threshold"] is None:
        return start + "The truth holds only one of the two sides, so there is no threshold to fit."
    sides = {
        name: _ranged(
            {"value": point[name], "low": point[f"{name}_low"], "high": point[f"{name}_high"]}
        )
        for name in ("sensitivity", "specificity")
    }
    return start + (
        f"At the threshold {point['threshold']:.4f} (Youden) sensitivity is {sides['sensitivity']} "
        f"and specificity {sides['specificity']}. The threshold was fitted on these same images, "
        "so both are a little optimistic; the intervals hold it fixed."
    )


def _calibration(found: dict, drawn: set[str]) -> str:
    numbers = found["calibration"]
    gap = numbers["mean_confidence"] - numbers["share_right"]
    tendency = "overconfident" if gap > 0 else "underconfident"
    words = (
        f"The top class gets a probability of {numbers['mean_confidence']:.3f} on average and is "
        f"right in {numbers['share_right']:.3f} of the images: {tendency} by {abs(gap):.3f}. "
        f"Expected calibration error {numbers['ece']:.3f} ({numbers['bins']} equal-width bins), "
        f"Brier score {numbers['brier']:.3f} (0 to 2), log-loss {numbers['log_loss']:.3f}."
    )
    return "## Calibration\n\n" + words + "\n\n" + _picture(drawn, "reliability")


def _prior(predictions: Predictions) -> str:
    shift = prior_shift(predictions)
    rows = [
        [row.code, f"{row.share:.1%}", f"{row.mean_probability:.1%}", _number(row.ratio)]
        for row in shift.itertuples()
    ]
    head = ["class", "share of the images", "mean probability", "ratio"]
    words = (
        prior_sentence(shift) or "The probabilities expect each class about as often as it comes."
    )
    return "## Prior of the predictions\n\n" + words + "\n\n" + _table(head, rows)


def _training(drawn: set[str]) -> str:
    if "training_curves" not in drawn:
        return ""
    return "## Training\n\n" + _picture(drawn, "training_curves")


def _pictures(directory: Path, pictures: Mapping[str, Path]) -> list[str]:
    return [
        f"## {title}\n\n![{title}]({path.relative_to(directory).as_posix()})"
        for title, path in pictures.items()
    ]


def _facts(facts: dict[str, object]) -> str:
    facts = {name: value for name, value in facts.items() if name != WARNINGS and value is not None}
    rows = [[name, _fact(value)] for name, value in facts.items()]
    return "## Facts\n\n" + _table(["fact", "value"], rows) if rows else ""


def _fact(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _picture(drawn: set[str], *names: str) -> str:
    return "\n\n".join(f"![{FIGURES[name]}](figures/{name}.png)" for name in names if name in drawn)


def _table(head: list[str], rows: list[list[object]]) -> str:
    """A Markdown table; numbers of images get a thousands separator."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"


def _ranged(entry: dict) -> str:
    if entry["value"] is None or entry["low"] is None:
        return _number(entry["value"])
    return f"{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f})"


def _mean_sd(entry: dict) -> str:
    if entry["mean"] is None or entry["sd"] is None:
        return _number(entry["mean"])
    return f"{entry['mean']:.3f} ± {entry['sd']:.3f}"
