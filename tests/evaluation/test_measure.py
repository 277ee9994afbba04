"""The numbers of metrics.json: all there, all documented, and clear at the edges."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.calibration.report import calibration_report
from kderm.evaluation.comparison.compare import compare_runs
from kderm.evaluation.decisions.decision_curve import decision_report
from kderm.evaluation.decisions.points import operating_report
from kderm.evaluation.intervals import RESAMPLES, group_intervals
from kderm.evaluation.measure import measure
from kderm.evaluation.metrics import Scorecard
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report.findings import gather
from kderm.evaluation.subgroups import subgroup_report
from kderm.evaluation.uncertainty.abstain import abstain_report
from kderm.evaluation.uncertainty.conformal_report import conformal_report
from kderm.labels import BINARY, HAM10000, LabelSpace

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ORDERED = LabelSpace(
    "custom", ("mild", "severe", "mel"), ("Mild", "Severe", "Melanoma"), malignant=("mel",)
)


def predictions(labels=HAM10000, n=140, folds=4, seed=0, y=None):
    random = np.random.default_rng(seed)
    k = len(labels)
    y = np.arange(n) % k if y is None else np.asarray(y)
    odds = random.random((len(y), k)) + 0.6 * np.eye(k)[y]
    table = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=labels.columns)
    table["image_id"] = [f"im{i}" for i in range(len(y))]
    table["group_id"] = [f"g{i // 2}" for i in range(len(y))]
    table["label"] = [labels.codes[j] for j in y]
    if folds:
        table["fold"] = np.arange(len(y)) // 2 % folds
    return make_predictions(table, labels)


def documented(heading):
    """Keys in the first column of the table under a heading of docs/metrics.md."""
    section = PAGE.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [key for cell in first for key in re.findall(r"`([^`]+)`", cell)]


def test_every_metric_is_documented_and_every_documented_metric_is_there():
    found = measure(predictions(ORDERED), checkpoint="last", resamples=20)
    overall = documented("Overall")
    assert sorted(overall) == sorted(found["pooled"])
    assert sorted(overall) == sorted(found["fold_mean"])
    assert set(overall) < set(found["folds"][0])
    assert sorted(documented("Of one class")) == sorted(found["per_class"]["mel"])


def test_every_part_of_the_file_is_documented():
    found = gather(predictions(), checkpoint="last", resamples=20).metrics
    assert set(found) <= set(documented("The file"))
    top = found["calibration_report"]["top_label"]["ece"]
    assert found["pooled"]["ece"]["value"] == pytest.approx(top["value"], abs=1e-12)


@pytest.mark.parametrize("labels", [HAM10000, BINARY, ORDERED])
def test_every_metric_has_an_interval_around_it(labels):
    found = measure(predictions(labels), checkpoint="last", resamples=200)
    every = {key: value for key, value in found["pooled"].items() if key != "ece"}
    for code, own in found["per_class"].items():
        every |= {f"{key}/{code}": value for key, value in own.items() if key != "n"}
    for name, value in every.items():
        assert value["low"] < value["high"], name
        assert value["low"] <= value["value"] <= value["high"], name


def test_the_intervals_are_those_of_the_scorecard_at_the_same_draws():
    given = predictions()
    found = measure(given, checkpoint="last", resamples=80)
    expected = group_intervals(
        Scorecard(given.y, given.probabilities, given.labels), given.groups, resamples=80
    )
    own = found["per_class"]["bcc"]["pauc_80"]
    assert (own["low"], own["high"]) == (expected["pauc_80/bcc"].low, expected["pauc_80/bcc"].high)
    assert found["pooled"]["mel_auc"]["low"] == expected["auc/mel"].low
    assert found["pooled"]["mcc"]["high"] == expected["mcc"].high


def test_a_rate_of_one_is_not_certain():
    given = predictions(folds=0)
    sure = given.table.assign(**dict.fromkeys(HAM10000.columns, 0.0))
    for code in HAM10000.codes:
        sure.loc[sure["label"] == code, f"p_{code}"] = 1.0
    found = measure(make_predictions(sure, HAM10000), checkpoint=None, resamples=40)
    groups = sure.loc[sure["label"] == "df", "group_id"].nunique()
    own = found["per_class"]["df"]
    exact = 0.025 ** (1 / groups)
    assert own["sensitivity"] == {"value": 1, "low": pytest.approx(exact), "high": 1}
    assert own["ppv"] == own["sensitivity"]
    assert exact < own["specificity"]["low"] < 1


DEGENERATE = {
    "a class absent": predictions(y=np.arange(60) % 5),
    "one class only": predictions(y=np.zeros(40, int)),
    "two images": predictions(BINARY, y=[0, 1], folds=0),
    "one image": predictions(y=[4], folds=0),
    "one group": make_predictions(predictions().table.assign(group_id="g", fold=0), HAM10000),
    "constant scores": make_predictions(
        predictions().table.assign(**dict.fromkeys(HAM10000.columns, 1 / 7)), HAM10000
    ),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_tables_give_numbers_or_null_and_no_warning(case, recwarn):
    found = measure(DEGENERATE[case], checkpoint=None, resamples=20)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert [str(w.message) for w in recwarn] == []


def test_what_cannot_be_measured_is_null():
    one_class = measure(DEGENERATE["one class only"], checkpoint="last", resamples=20)
    for name in ("macro_auc", "mcc", "malignant_auc", "malignant_pauc_80"):
        assert one_class["pooled"][name] == {"value": None, "low": None, "high": None}
    assert one_class["pooled"]["accuracy"]["value"] is not None
    assert one_class["absent_classes"] == list(HAM10000.codes[1:])
    one_group = measure(DEGENERATE["one group"], checkpoint="last", resamples=20)
    assert one_group["pooled"]["macro_auc"]["value"] is not None
    assert one_group["pooled"]["macro_auc"]["low"] is None
    constant = measure(DEGENERATE["constant scores"], checkpoint="last", resamples=20)
    assert constant["undecided"] == 140
    assert constant["pooled"]["macro_auc"]["value"] == 0.5
    assert constant["pooled"]["malignant_pauc_80"]["value"] == pytest.approx(0.02)
    assert constant["pooled"]["kappa"]["value"] == 0
    assert constant["pooled"]["mcc"]["value"] is None


def test_an_accuracy_of_one_or_none_is_not_called_certain():
    right = np.eye(7)[np.arange(40) % 7]
    for share, p in ((1.0, right), (0.0, np.full((40, 7), 1 / 7))):
        rows = pd.DataFrame(p, columns=HAM10000.columns).assign(
            image_id=[f"i{i}" for i in range(40)],
            group_id=[f"g{i // 2}" for i in range(40)],
            label=np.array(HAM10000.codes)[np.arange(40) % 7],
        )
        found = measure(make_predictions(rows, HAM10000), checkpoint=None, resamples=20)
        accuracy = found["pooled"]["accuracy"]
        assert accuracy["value"] == share
        assert accuracy["high"] - accuracy["low"] == pytest.approx(1 - 0.025 ** (1 / 20))


def test_the_same_number_has_the_same_interval_in_every_part_of_the_report():
    """Headline, image-level row of the lesions, and the abstain curve's last point."""
    random = np.random.default_rng(5)
    y = np.arange(210) // 3 % 7
    odds = np.exp(random.normal(size=(210, 7)) + np.eye(7)[y])
    rows = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=HAM10000.columns).assign(
        image_id=[f"i{i}" for i in random.permutation(210)],
        group_id=[f"g{i // 3}" for i in range(210)],
        fold=np.arange(210) // 21 % 5,
        label=np.array(HAM10000.codes)[y],
    )
    found = gather(make_predictions(rows, HAM10000), checkpoint="last", resamples=40).metrics
    images = found["lesions"]["images"]
    assert {"macro_auc", "balanced_accuracy", "accuracy", "malignant_auc"} <= set(images)
    for name, one in images.items():
        assert one == pytest.approx(found["pooled"][name], abs=1e-12), name
    whole = found["abstain"]["by"]["max_probability"]["at"]["1"]
    for name in ("accuracy", "balanced_accuracy"):
        assert whole[name] == pytest.approx(found["pooled"][name], abs=1e-12)


FIRST = (measure, calibration_report, decision_report, operating_report, subgroup_report)


@pytest.mark.parametrize(
    "part",
    [*FIRST, conformal_report, abstain_report, compare_runs],
)
def test_every_part_resamples_as_often_unless_told_otherwise(part):
    assert inspect.signature(part).parameters["resamples"].default == RESAMPLES == 2000
