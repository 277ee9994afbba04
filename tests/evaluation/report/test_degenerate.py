"""The report of inputs that leave much undefined."""

import re

import pytest
from PIL import Image

from kderm.errors import UserError
from kderm.evaluation.decisions.points import choose_points
from kderm.evaluation.measure import without_nan
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report.reproduction import Background
from kderm.labels import HAM10000, LabelSpace


def test_rare_and_absent_classes_are_pointed_out(report, out_of_fold, tmp_path):
    table = out_of_fold().table
    rare = table.index[table["label"] == "df"][4:]
    absent = table.index[table["label"] == "vasc"]
    found, text = report(make_predictions(table.drop(index=rare.union(absent)), HAM10000), tmp_path)
    assert found["absent_classes"] == ["vasc"]
    assert found["few_positives"] == ["df"]
    assert "**Fewer than 10 images** of df (4)" in text
    assert "**No image** of vasc" in text
    assert found["per_class"]["vasc"]["auc"]["value"] is None
    assert found["pooled"]["macro_auc"]["value"] is not None


def test_one_group_alone_has_numbers_but_no_intervals(report, out_of_fold, tmp_path):
    table = out_of_fold(n=70).table.assign(fold=-1, group_id="only")
    found, text = report(make_predictions(table, HAM10000), tmp_path)
    assert found["pooled"]["macro_auc"]["low"] is None
    assert "**One group only**" in text
    assert "Intervals are" not in text


def test_constant_scores_are_reported_as_undecided(report, out_of_fold, tmp_path):
    table = out_of_fold(n=210).table
    table[HAM10000.columns] = 1 / 7
    found, text = report(make_predictions(table, HAM10000), tmp_path)
    assert found["undecided"] == 210
    assert found["pooled"]["macro_auc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["pooled"]["accuracy"]["value"] == 0
    assert "**210 images without a decision**" in text


@pytest.mark.parametrize("codes", [["mel", "nv"], ["nv", "nv"], ["mel"], ["nv"]])
def test_one_or_two_images_give_a_report(report, out_of_fold, external, tmp_path, codes):
    table = out_of_fold(n=70).table.head(len(codes)).assign(label=codes)
    found, text = report(external(table), tmp_path)
    assert found["n_images"] == len(codes)
    points = {point["name"] for point in found["operating_points"]["points"]}
    assert ("malignant_youden" in points) == (len(set(codes)) == 2)
    assert ("At the balanced threshold" in text) == (len(set(codes)) == 2)


def test_a_label_space_without_melanoma_or_malignant_classes_is_reported(
    report, out_of_fold, tmp_path
):
    space = LabelSpace("custom", ("x", "y", "z"), ("x", "y", "z"))
    found, text = report(out_of_fold(space, n=60), tmp_path)
    assert "mel_auc" not in found["pooled"]
    assert "malignant_auc" not in found["pooled"]
    assert found["operating_points"]["points"] == []
    assert "alignant" not in text


def test_many_classes_and_many_folds_still_draw(report, out_of_fold, history, tmp_path):
    codes = tuple(f"c{j:02d}" for j in range(18))
    report(
        out_of_fold(LabelSpace("custom", codes, codes), n=216, folds=6),
        tmp_path,
        histories={fold: history(1) for fold in range(12)},
    )
    with Image.open(tmp_path / "figures" / "confusion.png") as image:
        assert image.width > 400


def test_a_history_without_its_columns_is_refused(report, out_of_fold, history, tmp_path):
    with pytest.raises(UserError, match=r"fold 2 needs .* Missing: val_macro_f1, chosen\."):
        report(
            out_of_fold(n=70),
            tmp_path,
            histories={2: history().drop(columns=["chosen", "val_macro_f1"])},
            monitor="macro_f1",
        )


def test_nan_becomes_none_at_any_depth():
    value = {"a": [1.0, float("nan"), {"b": float("inf")}], "c": (float("nan"), "nan", 2)}
    assert without_nan(value) == {"a": [1.0, None, {"b": None}], "c": [None, "nan", 2]}


def test_what_is_undefined_is_a_dash_and_never_nan(report, out_of_fold, tmp_path):
    table = out_of_fold(n=70).table
    _, text = report(make_predictions(table[table["label"] != "df"], HAM10000), tmp_path)
    assert "| df | 0.0 % |" in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("codes", [("mel",), ("nv",), ("bcc", "nv")])
def test_frozen_points_on_images_of_few_classes_still_report(
    report, out_of_fold, external, tmp_path, codes
):
    frozen = choose_points(out_of_fold(), resamples=20)
    table = out_of_fold(n=280, seed=1).table
    found, text = report(external(table[table["label"].isin(codes)]), tmp_path, frozen=frozen)
    assert len(found["operating_points"]["points"]) == len(frozen)
    assert ("figures/operating_points.png" in text) == (len(codes) == 2)


def test_pictures_that_are_gone_are_told(report, out_of_fold, tmp_path):
    gone = Background(pictures=lambda ids: {})
    _, text = report(out_of_fold(), tmp_path, background=gone)
    assert "so they are listed, not shown" in text
