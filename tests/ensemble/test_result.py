import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kderm.ensemble.bundle import read_bundle, write_bundle
from kderm.ensemble.cautions import settings_warnings, unlike_told
from kderm.ensemble.combine import normalised_entropy
from kderm.ensemble.prevalence import Prevalence
from kderm.ensemble.result import correction_note
from kderm.ensemble.settings import Settings
from kderm.evaluation.calibration.scaling import Scaling
from kderm.evaluation.decisions.operating_points import target_named
from kderm.labels import HAM10000


def test_where_labels_are_known_there_is_a_report(predict, trained, images, tmp_path):
    out = tmp_path / "out"
    summary, table = predict(trained, [labelled(images)], out)
    assert summary.report == out / "report.html"
    assert summary.report.read_text().startswith("<!")
    assert (out / "metrics.json").exists()
    assert list((out / "figures").glob("*.png"))
    assert table["label"].tolist() == ["mel", "nv", "nv", "mel", "nv", "", "bcc", "nv", "nv"]
    assert summary.labelled == summary.metrics["n_images"] == 8
    right = [p == t for p, t in zip(table["predicted"], table["label"], strict=True) if t]
    assert summary.metrics["pooled"]["accuracy"]["value"] == pytest.approx(np.mean(right))
    # lesion_0 and lesion_1 are one lesion, lesion_2 and lesion_3 one patient.
    assert summary.metrics["n_groups"] == 6
    text = summary.report.with_suffix(".md").read_text()
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
    assert "1 of 9 images" in summary.warnings[0]
    assert "2 of 3 members were trained" in summary.warnings[0]


def test_a_report_over_nothing_but_training_images_says_so_loudly(
    predict, trained, tmp_path, picture
):
    for number, code in enumerate(["mel", "nv", "bcc"]):
        picture(tmp_path / "data" / code / f"train_1_{number}.png", number)
    summary, _ = predict(trained, [tmp_path / "data"], tmp_path / "out")
    assert summary.seen == 3
    assert "WARNING: ALL 3 images" in str(summary)
    title, warning = summary.report.with_suffix(".md").read_text().split("\n\n")[:2]
    assert "NOT A TEST" in title
    assert warning == f"> **Warning:** {summary.warnings[0]}"


def test_a_bundle_without_its_out_of_fold_table_admits_that_it_does_not_know(
    predict, run, images, tmp_path
):
    run.oof.unlink()
    summary, _ = predict(run, [images], tmp_path / "out")
    assert summary.seen is None
    assert "unknown whether" in summary.warnings[0]


@pytest.mark.parametrize(
    ("options", "here", "there"),
    [
        ({"views": "d4"}, "views d4", "views flips"),
        (
            {"views": "d4", "combine": "logit"},
            "views d4, combine logit",
            "views flips, combine probability",
        ),
        ({"early_exit": 0.2}, "early exit at 0.2", "all passes of every image"),
    ],
)
def test_other_settings_than_the_thresholds_own_are_told(
    predict, trained, images, tmp_path, options, here, there
):
    summary, _ = predict(trained, [images], tmp_path / "out", **options)
    (warning,) = summary.warnings
    assert f"these answers were made with {here}; " in warning
    assert f"report speaks of {there}, and calibration, thresholds and sets" in warning
    assert f"WARNING: {warning}" in str(summary)


def test_another_precision_is_told_even_where_the_bundle_asks_for_it(trained):
    bundle = read_bundle(trained.path)
    facts = bundle.facts.model_copy(update={"precision": "bfloat16", "early_exit": 0.1})
    bundle = replace(bundle, facts=facts)
    asked = Settings("flips", "probability", precision="bfloat16", early_exit=0.1)
    (warning,) = settings_warnings(bundle, asked)
    assert "made with precision bfloat16, early exit at 0.1; the run's" in warning
    assert "speaks of precision float32, all passes of every image, and" in warning
    assert settings_warnings(bundle, Settings("flips", "probability", engine="onnx")) == ()


def test_an_early_exit_that_can_save_nothing_says_so_and_changes_nothing(
    predict, trained, images, tmp_path
):
    options = {"views": "none", "early_exit": 0.2}
    summary, _ = predict(trained, [images], tmp_path / "out", **options)
    assert "3 members x 1 view leave none to save" in summary.warnings[0]
    assert "early exit" not in summary.warnings[1]
    assert "made with views none; the run's" in summary.warnings[1]


def test_a_correction_promises_no_sensitivity_here():
    note = correction_note(Prevalence({"mel": 0.02}, ("mel", "nv"), (0.5, 0.5), (0.02, 0.98)))
    assert "leaves them as they are" in note
    assert "hold here only labelled images show" in note


def test_every_warning_stands_once_at_the_top_of_the_report(predict, run, images, tmp_path):
    run.oof.unlink()
    summary, _ = predict(run, [labelled(images)], tmp_path / "out", views="none")
    assert len(summary.warnings) == 2
    text = summary.report.with_suffix(".md").read_text()
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


def change_bundle(run, **facts):
    """Edit ensemble.json by hand."""
    run.bundle.write_text(json.dumps({**json.loads(run.bundle.read_text()), **facts}))


def without_later_facts(run):
    """The bundle as the first version of kderm wrote it."""
    facts = json.loads(run.bundle.read_text())
    for name in ("calibration", "prior", "operating_points", "conformal", "unlike"):
        del facts[name]
    run.bundle.write_text(json.dumps(facts))


def test_the_probabilities_in_the_table_are_the_calibrated_ones(predict, run, images, tmp_path):
    scaling = read_bundle(run.path).calibration
    _, calibrated = predict(run, [images], tmp_path / "calibrated")
    without_later_facts(run)
    _, raw = predict(run, [images], tmp_path / "raw")
    answers = raw[HAM10000.columns].to_numpy(dtype=np.float64)
    expected = scaling.apply(answers)
    found = calibrated[HAM10000.columns].to_numpy(dtype=np.float64)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - answers).max() > 0.01  # so that the test can fail
    np.testing.assert_allclose(calibrated["entropy"], normalised_entropy(expected), atol=1e-5)
    # A temperature leaves the order of an image's classes, and what members disagree on.
    assert calibrated["predicted"].tolist() == raw["predicted"].tolist()
    for column in ("fold_sd", "mutual_information", "disagreement"):
        np.testing.assert_allclose(calibrated[column], raw[column], atol=1e-6)


def test_an_older_bundle_has_no_points_no_sets_and_no_score(predict, run, images, tmp_path):
    without_later_facts(run)
    summary, table = predict(run, [images], tmp_path / "out")
    for column in ("operating_points", "conformal_set", "unlike", "unlike_training"):
        assert (table[column] == "").all()
    assert set(table["malignant"].astype(int)) <= {0, 1}
    assert summary.warnings == ()


def test_each_image_names_the_frozen_thresholds_it_reaches(predict, trained, images, tmp_path):
    _, table = predict(trained, [images], tmp_path / "out")
    points = read_bundle(trained.path).operating_points
    probabilities = table[HAM10000.columns].to_numpy(dtype=np.float64)
    scores = [target_named(point.target, HAM10000).score(probabilities) for point in points]
    for row, told in enumerate(table["operating_points"]):
        both = zip(points, scores, strict=True)
        reached = [point.name for point, score in both if score[row] >= point.value]
        assert told.split() == reached
    youden = table["operating_points"].str.split().map(lambda names: "malignant_youden" in names)
    assert youden.astype(int).tolist() == table["malignant"].astype(int).tolist()


def test_each_image_has_its_set_of_classes(predict, trained, images, tmp_path):
    _, table = predict(trained, [images], tmp_path / "out")
    sets = read_bundle(trained.path).conformal
    probabilities = table[HAM10000.columns].to_numpy(dtype=np.float64)
    assert table["conformal_set"].tolist() == sets.named(probabilities)
    assert table["conformal_set"].nunique() > 1


def test_an_image_without_an_answer_has_no_flag_and_no_set(predict, trained, images, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 cut")
    _, table = predict(trained, [images], tmp_path / "out")
    columns = ["p_malignant", "malignant", "operating_points", "conformal_set", "entropy"]
    assert (table.loc["broken", columns] == "").all()


def test_the_report_on_other_images_applies_the_frozen_points(predict, trained, images, tmp_path):
    summary, _ = predict(trained, [labelled(images)], tmp_path / "out")
    found = summary.metrics["operating_points"]
    assert not found["chosen_here"]
    frozen = {point.name: point.value for point in read_bundle(trained.path).operating_points}
    assert {point["name"]: point["threshold"] for point in found["points"]} == frozen
    text = summary.report.with_suffix(".md").read_text()
    words = read_bundle(trained.path).calibration.words
    assert words in text


def test_the_report_on_other_images_judges_the_frozen_sets(predict, trained, images, tmp_path):
    summary, table = predict(trained, [labelled(images)], tmp_path / "out")
    found = summary.metrics["conformal"]
    (own,) = found["methods"].values()
    assert found["how"] == "frozen thresholds, fitted elsewhere"
    assert own["thresholds"] == read_bundle(trained.path).conformal.to_dict()
    known = table[table["label"] != ""]
    pairs = zip(known["label"], known["conformal_set"], strict=True)
    held = [label in codes.split() for label, codes in pairs]
    assert own["coverage"]["value"] == pytest.approx(np.mean(held))


def test_the_report_on_other_images_ranks_them_by_what_the_members_said(
    predict, trained, images, tmp_path
):
    summary, _ = predict(trained, [labelled(images)], tmp_path / "out")
    by = summary.metrics["abstain"]["by"]
    assert {"max_probability", "mutual_information", "disagreement"} <= set(by)


def test_vector_scaling_is_applied_where_the_bundle_has_it(predict, run, images, tmp_path):
    _, before = predict(run, [images], tmp_path / "before")
    scaling = Scaling("vector", (0.5,) * 7, (3.0, 0, 0, 0, 0, 0, -3.0))
    change_bundle(run, calibration=scaling.to_dict() | {"fitted_on": "oof"})
    _, after = predict(run, [images], tmp_path / "after")
    assert (after["p_akiec"].to_numpy() > before["p_akiec"].to_numpy()).any()
    assert (after["p_vasc"] < 0.05).all()
    assert write_bundle(run, "vector").calibration.kind == "vector"


def test_images_unlike_those_of_training_are_counted_in_a_warning():
    (warning,) = unlike_told(2, 3)
    assert warning.startswith("2 of 3 images look unlike")
    assert unlike_told(0, 3) == ()
