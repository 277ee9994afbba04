"""The whole report of tables that can hardly be reported on: an answer, no crash, no silent NaN."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.evaluation.measure import measure
from kderm.evaluation.predictions import make_predictions, read_predictions
from kderm.evaluation.report import style
from kderm.evaluation.report.write import write_report
from kderm.labels import BINARY, HAM10000

RESAMPLES = 30


@pytest.fixture(autouse=True, scope="module")
def coarse_pictures():
    """A quarter of the resolution: nobody looks at these pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "savefig.dpi", 36)
        yield


def rows(labels=HAM10000, n=140, folds=2):
    """Pairs of photos of a lesion, answered right more often than not."""
    random, k = np.random.default_rng(0), len(labels)
    y = np.arange(n) // 2 % k
    odds = np.exp(random.normal(size=(n, k)) + 1.5 * np.eye(k)[y])
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=labels.columns)
    return table.assign(
        image_id=[f"i{i:03d}" for i in range(n)],
        group_id=[f"g{i // 2}" for i in range(n)],
        fold=np.arange(n) // 2 // k % folds,
        label=np.array(labels.codes)[y],
    )


def answered(values, labels=HAM10000, **options):
    table = rows(labels, **options)
    table[labels.columns] = values(table, labels)
    return table


def certain(table, labels, off=0):
    """All of the probability on the true class, or on one `off` behind it."""
    y = np.array([labels.index(code) for code in table["label"]])
    return np.eye(len(labels))[(y + off) % len(labels)]


def tied(table, labels):
    rounded = table[labels.columns].round(1) + 0.01
    return rounded.div(rounded.sum(axis=1), axis=0)


def of_classes(*codes):
    table = rows()
    return table[table["label"].isin(codes)]


def elsewhere(table):
    """The same without folds and groups, as a table from another place comes."""
    return table.drop(columns=["fold", "group_id"])


# Table, and what report.md must say of it.
CASES = {
    "a class absent": (of_classes(*HAM10000.codes[1:]), "**No image** of akiec"),
    "one class alone": (of_classes("nv"), "**No image** of akiec, bcc"),
    "only malignant images": (of_classes("mel", "bcc"), "no image is negative"),
    "one group in one fold": (rows().assign(group_id="g", fold=0), "**One group only**"),
    "one group across folds": (rows().assign(group_id="g"), "**Leak.** 1 group with images"),
    "constant scores": (
        answered(lambda table, labels: np.full((len(table), 7), 1 / 7)),
        "**140 images without a decision**",
    ),
    "ties": (answered(tied), "without a decision"),
    # Of 70 lesions all or none, exactly: 0.025 ** (1 / 70) is 0.949.
    "certain and right": (answered(certain), "| Accuracy | 1.000 (0.949 to 1.000) |"),
    "certain and wrong": (
        answered(lambda t, s: certain(t, s, off=1)),
        "| Accuracy | 0.000 (0.000 to 0.051) |",
    ),
    "two images": (rows().head(2), "**One group only**"),
    "two images of two classes": (elsewhere(rows().iloc[[0, 2]]), "**No image**"),
    "no metadata": (rows(), "Not recorded in this table"),
    "metadata of two images": (
        rows().assign(
            sex=["male", *[""] * 13, "female", *[""] * 125],
            age=[0, *[np.nan] * 13, "x", *[np.nan] * 124, 51],
        ),
        "Not recorded in this table",
    ),
    "two classes, one there": (rows(BINARY, n=40).query("label == 'benign'"), "**No image**"),
}


def labels_of(table):
    return next(space for space in (BINARY, HAM10000) if set(space.columns) <= set(table.columns))


def strictly(text):
    def refuse(name):
        raise AssertionError(f"{name} in metrics.json")

    return json.loads(text, parse_constant=refuse)


def estimates(found, path=""):
    """Every {value, low, high} below `found`, with where it stands."""
    if isinstance(found, dict):
        if {"value", "low", "high"} <= set(found):
            yield path, found
        for name, item in found.items():
            yield from estimates(item, f"{path}/{name}")
    elif isinstance(found, list):
        for number, item in enumerate(found):
            yield from estimates(item, f"{path}/{number}")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_the_report_of_a_degenerate_table_is_whole_and_clear(case, tmp_path):
    table, words = CASES[case]
    table.to_csv(tmp_path / "oof.csv", index=False)
    predictions = read_predictions(tmp_path / "oof.csv", labels_of(table))
    write_report(
        predictions,
        tmp_path,
        title="Report",
        histories=None,
        facts={},
        checkpoint="best" if predictions.has_folds else None,
        monitor=None,
        resamples=RESAMPLES,
    )
    metrics = strictly((tmp_path / "metrics.json").read_text())
    text = (tmp_path / "report.md").read_text()
    assert metrics["n_images"] == len(table)
    assert words in text
    for said in (text, (tmp_path / "report.html").read_text()):
        assert not re.search(r"(?<![\w+/])[+-]?(nan|inf)(?![\w+/=])", said, re.IGNORECASE)
    for path, one in estimates(metrics):
        # Both ends or none, in order, and none without a value.
        ends = [one["low"], one["high"]]
        assert (None in ends) == (ends == [None, None]) or "number_needed" in path, path
        if None not in ends:
            assert one["value"] is not None, path
            assert ends[0] <= ends[1], path


@pytest.mark.parametrize("off", [0, 1])
def test_certain_answers_have_exact_values_and_exact_ends(off):
    """All or none right, of each class in 10 lesions: no calibration error, or nothing else."""
    table = answered(lambda rows, labels: certain(rows, labels, off))
    found = measure(make_predictions(table, HAM10000), checkpoint=None, resamples=RESAMPLES)
    right = 1 - off
    assert found["pooled"]["balanced_accuracy"]["value"] == right
    assert found["pooled"]["ece"]["value"] == off
    assert found["pooled"]["brier"]["value"] == 2 * off
    for share, groups in (
        (found["pooled"]["accuracy"], 70),
        *((own["sensitivity"], 10) for own in found["per_class"].values()),
        *((own["ppv"], 10) for own in found["per_class"].values()),
    ):
        reach = 0.025 ** (1 / groups)
        ends = (0, 1 - reach) if off else (reach, 1)
        assert (share["value"], share["low"], share["high"]) == (right, *map(pytest.approx, ends))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "scc"}, r"label must be one of akiec.* i000 \('scc'\)"),
        ({"label": ""}, r"label must be one of"),
        ({"p_mel": 0.9}, r"must sum to 1 .*i000"),
        ({"p_mel": "nan"}, r"must be finite numbers; not for: i000"),
        ({"p_mel": 3.2}, r"must lie in \[0, 1\] \(are these logits\?\)"),
        ({"fold": 0.5}, r"fold must be a whole number"),
        ({"image_id": "i001"}, r"image_id must be unique; more than once: i001"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_image_and_what_was_expected(
    change, words, tmp_path
):
    table = rows(n=14).astype({"fold": object, "p_mel": object})
    for column, value in change.items():
        table.loc[0, column] = value
    table.to_csv(tmp_path / "oof.csv", index=False)
    with pytest.raises(UserError, match=words):
        read_predictions(tmp_path / "oof.csv", HAM10000)
