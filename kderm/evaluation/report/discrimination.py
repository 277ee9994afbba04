"""How well the classes are told apart: overall, by fold, by class, and who is taken for whom."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from kderm.evaluation.intervals import Interval
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report import figures
from kderm.evaluation.report.document import (
    Beside,
    Block,
    Estimate,
    Figure,
    Heading,
    Section,
    Share,
    Spread,
    Table,
    Text,
)
from kderm.evaluation.report.provenance import FOLD_COLUMNS

HEADLINE = {
    "macro_auc": "Macro AUC (one against the rest)",
    "mel_auc": "Melanoma AUC",
    "malignant_auc": "Malignant AUC",
    "balanced_accuracy": "Balanced accuracy (ISIC)",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "accuracy": "Accuracy",
    "kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "macro_average_precision": "Macro average precision",
    "macro_auc_sens_80": "AUC above a sensitivity of 0.8 (ISIC), mean over classes",
    "log_loss": "Log-loss (less is better)",
    "brier": "Brier score, 0 to 2 (less is better)",
}
_CLASS_COLUMNS = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
}
_WITH_INTERVAL = {"auc", "sensitivity"}
MOST_PAIRS = 8
_AUCS = ("auc", "macro_auc", "mel_auc", "malignant_auc")
PERFECT = "†"
_PERFECT_WORDS = (
    f"{PERFECT} Every pair of these images is in the right order (or, at 0, in the wrong one), so "
    "every resample's is too, and a bootstrap interval cannot show what other images would do. "
    "With few images it says little."
)


def discrimination_section(predictions: Predictions, found: dict) -> Section:
    """Headline, folds, classes, curves, confusion."""
    return Section(
        "Discrimination",
        [
            _headline(found),
            *_footnote([found["pooled"]]),
            *_folds(found),
            Heading("Classes"),
            Text(
                "One class against the rest. Sensitivity, specificity, PPV, NPV and F1 are those "
                "of the class with the highest probability."
            ),
            _class_table(predictions, found),
            *_footnote(found["per_class"].values()),
            *_curves(predictions, found),
            Heading("Confusion"),
            Figure(
                "confusion",
                "Confusion matrix: a row is a true class; in each cell its share and its images",
                partial(figures.plot_confusion, predictions=predictions),
                560,
            ),
            _confusion_table(found),
            *_pairs(predictions, found),
        ],
    )


def _headline(found: dict) -> Table:
    has_folds = bool(found["folds"])
    header = ["metric", "pooled (95 % interval)"] + ["mean ± sd over folds"] * has_folds
    rows = []
    for name, words in HEADLINE.items():
        if name in found["pooled"]:
            spread = [Spread(**found["fold_mean"][name])] if has_folds else []
            rows.append([words, _marked(name, found["pooled"][name]), *spread])
    return Table(header, rows, "headline")


def _folds(found: dict) -> list[Block]:
    if not found["folds"]:
        return []
    names = [name for name in FOLD_COLUMNS if name in found["pooled"]]
    header = ["fold", "images", "groups", *(FOLD_COLUMNS[name] for name in names)]
    rows = [
        [fold["fold"], fold["n_images"], fold["n_groups"], *(fold[name] for name in names)]
        for fold in found["folds"]
    ]
    return [Heading("Folds"), Table(header, rows, "folds")]


def _class_table(predictions: Predictions, found: dict) -> Table:
    header = ["class", "n", *_CLASS_COLUMNS.values()]
    rows = []
    for code, full_name in zip(predictions.labels.codes, predictions.labels.names, strict=True):
        own = found["per_class"][code]
        cells = (
            _marked(name, own[name]) if name in _WITH_INTERVAL else own[name]["value"]
            for name in _CLASS_COLUMNS
        )
        name = code if full_name == code else f"{code} ({full_name})"
        rows.append([name, own["n"], *cells])
    return Table(header, rows, "classes")


def _marked(name: str, entry: dict) -> Estimate:
    """A metric's estimate; an AUC of 1 or 0 with the mark of its footnote."""
    mark = PERFECT if _is_perfect(name, entry) else ""
    return replace(Estimate.of(entry), mark=mark)


def _is_perfect(name: str, entry: dict) -> bool:
    # An interval of no width, because no resample can differ; without one there is nothing to say.
    return name in _AUCS and entry["value"] in (0, 1) and entry["low"] is not None


def _footnote(rows: Iterable[Mapping[str, dict]]) -> list[Text]:
    """What the mark in the table above says, where that has one."""
    perfect = any(_is_perfect(name, row[name]) for row in rows for name in _AUCS if name in row)
    return [Text(_PERFECT_WORDS, soft=True)] if perfect else []


def _curves(predictions: Predictions, found: dict) -> list[Block]:
    draw_roc = partial(
        figures.plot_roc, predictions=predictions, intervals=_intervals(found, "auc")
    )
    draw_precision_recall = partial(
        figures.plot_precision_recall,
        predictions=predictions,
        intervals=_intervals(found, "average_precision"),
    )
    drawn = [
        Figure(
            "precision_recall",
            "Precision and recall of each class by threshold; prevalence is what guessing reaches",
            draw_precision_recall,
            500,
        )
    ]
    if any(own["auc"]["value"] is not None for own in found["per_class"].values()):
        caption = "ROC curve of each class; inset: the upper left corner enlarged"
        drawn.insert(0, Figure("roc", caption, draw_roc, 500))
    return [Beside(drawn)]


def _intervals(found: dict, name: str) -> dict[str, Interval]:
    return {
        code: Interval(own[name]["low"], own[name]["high"])
        for code, own in found["per_class"].items()
        if own[name]["low"] is not None
    }


def _confusion_table(found: dict) -> Table:
    codes = found["classes"]
    rows = [[f"{code}", *row] for code, row in zip(codes, found["confusion"], strict=True)]
    return Table(["true \\ predicted", *codes], rows, "confusion", "The same as a table")


def confused_pairs(found: dict) -> list[dict]:
    """The most frequent mistakes: true class, predicted class, images, share of the true class."""
    codes, count = found["classes"], np.array(found["confusion"])
    wrong = count - np.diag(np.diag(count))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[true, predicted]:
            pairs.append(
                {
                    "true": codes[true],
                    "predicted": codes[predicted],
                    "images": int(wrong[true, predicted]),
                    "share": float(wrong[true, predicted] / found["per_class"][codes[true]]["n"]),
                }
            )
    return pairs


def _pairs(predictions: Predictions, found: dict) -> list[Block]:
    rows = [
        [
            predictions.labels.names[predictions.labels.index(pair["true"])],
            predictions.labels.names[predictions.labels.index(pair["predicted"])],
            pair["images"],
            Share(pair["share"]),
        ]
        for pair in confused_pairs(found)
    ]
    if not rows:
        return []
    header = ["truth", "taken for", "images", "share of the truth"]
    return [Heading("Most confused pairs"), Table(header, rows, "confused_pairs")]
