import json

import numpy as np
import pandas as pd
import pytest


def test_where_labels_are_known_there_is_a_report(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    summary, table = predict(trained, [labelled(images)], out)
    assert summary.report == out / "report.md"
    assert (out / "metrics.json").exists()
    assert list((out / "figures").glob("*.png"))
    assert table["label"].tolist() == ["mel", "nv", "nv", "mel", "nv", "", "bcc", "nv", "nv"]
    assert summary.labelled == summary.metrics["n_images"] == 8
    right = [p == t for p, t in zip(table["predicted"], table["label"], strict=True) if t]
    assert summary.metrics["pooled"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    # lesion_0 and lesion_1 are one lesion, lesion_2 and lesion_3 one patient.
    assert summary.metrics["n_groups"] == 6
    text = summary.report.read_text()
    assert "images without a label, left out | 1 |" in text
    assert "sensitivity at the frozen threshold" in text
    assert (summary.seen, summary.warnings) == (0, ())


def labelled(folder):
    """A CSV beside the pictures with labels for all but one."""
    codes = ["mel", "nv", "nv", "mel", "nv", "", "bcc", "nv", "nv"]
    lesions, patients = ["L", "L"] + [""] * 7, ["", "", "P", "P"] + [""] * 5
    table = pd.DataFrame({"image_id": [f"lesion_{i}" for i in range(9)], "label": codes})
    table = table.assign(lesion_id=lesions, patient_id=patients)
    table.to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def test_training_images_among_the_inputs_are_counted_and_told(predict, trained, images, tmp_path):
    (images / "lesion_1.png").rename(images / "train_0_3.png")
    summary, _ = predict(trained, [images], tmp_path / "out")
    assert summary.seen == 1
    assert "1 of 9 image(s)" in summary.warnings[0]
    assert "2 of 3 members were trained" in summary.warnings[0]


def test_a_report_over_nothing_but_training_images_says_so_loudly(
    predict, trained, tmp_path, picture
):
    for number, code in enumerate(["mel", "nv", "bcc"]):
        picture(tmp_path / "data" / code / f"train_1_{number}.png", number)
    summary, _ = predict(trained, [tmp_path / "data"], tmp_path / "out")
    assert summary.seen == 3
    assert "WARNING: ALL 3 image(s)" in str(summary)
    title, warning = summary.report.read_text().split("\n\n")[:2]
    assert "NOT A TEST" in title
    assert warning == f"> **Warning:** {summary.warnings[0]}"


def test_a_bundle_without_its_out_of_fold_table_admits_that_it_does_not_know(
    predict, run, images, tmp_path
):
    run.oof.unlink()
    summary, _ = predict(run, [images], tmp_path / "out")
    assert summary.seen is None
    assert "unknown whether" in summary.warnings[0]


@pytest.mark.parametrize("options", [{"views": "d4"}, {"combine": "logit"}])
def test_other_views_or_combining_than_the_thresholds_own_are_told(
    predict, trained, images, tmp_path, options
):
    summary, _ = predict(trained, [images], tmp_path / "out", **options)
    (warning,) = summary.warnings
    assert f"views {options.get('views', 'flips')} and combine" in warning
    assert "report speaks of views flips and combine probability" in warning
    assert "malignant threshold was fitted with them" in warning
    assert f"WARNING: {warning}" in str(summary)


def test_every_warning_stands_once_at_the_top_of_the_report(predict, run, images, tmp_path):
    run.oof.unlink()
    summary, _ = predict(run, [labelled(images)], tmp_path / "out", views="none")
    assert len(summary.warnings) == 2
    text = summary.report.read_text()
    assert text.split("\n\n")[1:3] == [f"> **Warning:** {told}" for told in summary.warnings]
    assert all(text.count(told) == 1 for told in summary.warnings)


def test_the_bundles_own_views_and_combining_need_no_warning(predict, trained, images, tmp_path):
    summary, _ = predict(trained, [images], tmp_path / "out", views="flips", combine="probability")
    assert summary.warnings == ()


def test_an_ensemble_of_drawn_images_says_so(predict, run, images, tmp_path):
    facts = json.loads(run.bundle.read_text())
    run.bundle.write_text(json.dumps({**facts, "synthetic": True}))
    summary, _ = predict(run, [images], tmp_path / "out")
    assert "SYNTHETIC" in summary.warnings[0]
