"""The data behind the numbers: how many images of what and of whom, in which folds, what leaked."""

from collections.abc import Mapping

import pandas as pd

from kderm.evaluation.attributes import UNKNOWN
from kderm.evaluation.measure import without_nan
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.document import (
    Block,
    Estimate,
    Heading,
    Note,
    Section,
    Share,
    Table,
    Text,
)
from kderm.evaluation.report.provenance import provenance
from kderm.evaluation.report.sources import SourceScore, sources_sentence

_MOST_VALUES = 12
_ABOUT = {"sex": "Sex", "site": "Site", "source": "Source"}


def data_section(
    predictions: Predictions,
    found: dict,
    *,
    checkpoint: str | None,
    monitor: str | None,
    sources: list[SourceScore],
    facts: Mapping[str, object],
) -> Section:
    """What was scored, whether it leaked, and what is known about the people."""
    return Section(
        "Data and leakage",
        [
            provenance(predictions, found, checkpoint, monitor, facts),
            _class_counts(predictions),
            *_people(predictions.table),
            *_by_fold(predictions),
            *_sources(sources, found),
        ],
    )


def _class_counts(predictions: Predictions) -> Table:
    """Images and groups a class, and images a fold."""
    table = predictions.table
    folds = sorted(table["fold"].unique()) if predictions.has_folds else []
    header = ["class", "name", "images", "share", "groups", *(f"fold {fold}" for fold in folds)]
    rows = []
    for code, name in zip(predictions.labels.codes, predictions.labels.names, strict=True):
        own = table[table["label"] == code]
        in_fold = [int((own["fold"] == fold).sum()) for fold in folds]
        share = Share(len(own) / len(table))
        rows.append([code, name, len(own), share, int(own["group_id"].nunique()), *in_fold])
    return Table(header, rows, "class_counts")


def _people(table: pd.DataFrame) -> list[Block]:
    rows = []
    for column, words in _ABOUT.items():
        if column in table and table[column].notna().any():
            rows += _values(table[column], words)
    if "age" in table and table["age"].notna().any():
        age = table["age"]
        middle = f"{age.median():.0f} ({age.quantile(0.25):.0f} to {age.quantile(0.75):.0f})"
        rows.append(["Age", f"median (quartiles): {middle}", int(age.notna().sum()), None])
        if age.isna().any():
            rows.append(["Age", "not recorded", int(age.isna().sum()), Share(age.isna().mean())])
    if not rows:
        return [Text("Nothing about the people is in this table: no age, sex, site or source.")]
    return [
        Heading("Who is in it"),
        Table(["", "value", "images", "share"], rows, "characteristics", "Age, sex, site, source"),
    ]


def _by_fold(predictions: Predictions) -> list[Block]:
    """Whether the folds are alike in whom they show."""
    table = predictions.table
    if not predictions.has_folds:
        return []
    sexes = table["sex"].astype(str).str.lower() if "sex" in table else pd.Series(dtype=str)
    female = (sexes == "female").where(sexes.isin(["female", "male"]))
    age = table["age"] if "age" in table else pd.Series(dtype=float)
    malignant = table["label"].isin(predictions.labels.malignant)
    columns = {
        "malignant": malignant if predictions.labels.malignant else None,
        "female, of those recorded": female if female.notna().any() else None,
    }
    columns = {name: values for name, values in columns.items() if values is not None}
    has_age = age.notna().any()
    if not has_age and not columns:
        return []
    rows = []
    for fold, own in table.groupby("fold"):
        shares = [
            Share(float(values[own.index].astype(float).mean())) for values in columns.values()
        ]
        years = age[own.index].median() if has_age else None
        middle = [None if pd.isna(years) else f"{years:.0f}"] if has_age else []
        rows.append([int(fold), len(own), *shares, *middle])
    header = ["fold", "images", *columns, *["median age"] * bool(has_age)]
    return [Table(header, rows, "fold_characteristics", "Sex, age and malignancy by fold")]


def _values(column: pd.Series, words: str) -> list[list]:
    column = column.astype(object)
    unknown = column.isna() | column.astype(str).str.lower().isin(UNKNOWN)
    counts = column.mask(unknown, "not recorded").astype(str).value_counts()
    shown, rest = counts[:_MOST_VALUES], counts[_MOST_VALUES:]
    rows = [[words, value, int(n), Share(n / len(column))] for value, n in shown.items()]
    if len(rest):
        told = f"{len(rest)} further values"
        rows.append([words, told, int(rest.sum()), Share(rest.sum() / len(column))])
    return rows


def _sources(scores: list[SourceScore], found: dict) -> list[Block]:
    if not scores:
        return []
    rows = []
    for score in scores:
        entry = {
            "value": score.macro_auc,
            "low": score.interval.low,
            "high": score.interval.high,
        }
        estimate = Estimate.of(without_nan(entry))
        rows.append([score.source, score.images, score.groups, estimate])
    words = sources_sentence(scores, found["pooled"]["macro_auc"]["value"] or 0.0)
    return [
        Heading("Sources"),
        *([Note("warn", f"**Sources.** {words}")] if words else []),
        Table(["source", "images", "groups", "macro AUC within it"], rows, "sources"),
    ]
