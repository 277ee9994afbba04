import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest

from kderm.ensemble.bundle import join_oof, read_bundle, write_bundle
from kderm.errors import UserError
from kderm.evaluation.calibration.prevalence import implied_prior
from kderm.evaluation.calibration.scaling import (
    fit_temperature,
    fit_vector,
    nested_calibration,
    scaled,
)
from kderm.evaluation.decisions.points import choose_points
from kderm.evaluation.predictions import read_predictions
from kderm.evaluation.uncertainty.conformal import fit_conformal
from kderm.labels import HAM10000
from kderm.run_dir import RunDir


def change(run, change_values):
    """Edit ensemble.json by hand."""
    values = json.loads(run.bundle.read_text())
    change_values(values)
    run.bundle.write_text(json.dumps(values))


def test_the_bundle_holds_all_that_predicting_needs(run):
    run.config.unlink()
    bundle = read_bundle(run.path)
    assert bundle.labels == HAM10000
    assert bundle.frame == (40, 40)
    assert bundle.facts.image.size == 32
    assert (bundle.facts.views, bundle.facts.combine) == ("flips", "probability")
    assert [path.name for path in bundle.member_paths] == ["model.keras"] * 3
    # The folds' macro AUC are 0.6, 0.7, 0.8.
    np.testing.assert_allclose(bundle.member_weights, [1 / 6, 2 / 6, 3 / 6])


def test_a_bundle_is_read_from_its_folder_or_its_file_alike(trained):
    assert read_bundle(trained.path) == read_bundle(trained.bundle)


def test_the_threshold_is_the_best_one_on_the_out_of_fold_table(trained):
    bundle = read_bundle(trained.path)
    table = nested_calibration(join_oof(trained)).table
    malignant = table["label"].isin(HAM10000.malignant)
    score = table[[f"p_{code}" for code in HAM10000.malignant]].sum(axis=1)

    def youden(threshold):
        return (score >= threshold)[malignant].mean() - (score >= threshold)[~malignant].mean()

    best = max(youden(threshold) for threshold in score)
    assert youden(bundle.threshold) == pytest.approx(best)


def test_calibration_points_and_sets_are_fitted_on_the_out_of_fold_table(trained):
    bundle = read_bundle(trained.path)
    oof = join_oof(trained)
    assert bundle.calibration == fit_temperature(oof.probabilities, oof.y)
    assert 0 < bundle.calibration.temperature < 1  # so that the rest can fail
    calibrated = scaled(oof, bundle.calibration)
    np.testing.assert_array_equal(bundle.calibrated(oof).probabilities, calibrated.probabilities)
    # Thresholds are those of the report, where each fold is calibrated by the others.
    nested = nested_calibration(oof)
    assert bundle.operating_points == choose_points(nested)
    assert bundle.conformal == fit_conformal(nested)
    youden = {point.name: point.value for point in bundle.operating_points}["malignant_youden"]
    assert youden == bundle.threshold


def test_the_prior_is_that_of_the_calibrated_out_of_fold_answers(trained):
    bundle, oof = read_bundle(trained.path), join_oof(trained)
    np.testing.assert_allclose(bundle.prior.images, 1 / 7)
    calibrated = bundle.calibrated(oof).probabilities
    assert bundle.prior.answers == tuple(implied_prior(calibrated, oof.y))
    assert np.abs(np.subtract(bundle.prior.answers, 1 / 7)).max() > 0.005  # so that it can fail


def test_vector_scaling_leaves_no_prior_to_correct(run):
    prior = write_bundle(run, "vector").prior
    np.testing.assert_allclose(prior.answers, prior.images, atol=1e-3)


def test_a_run_can_be_bundled_with_vector_scaling(run):
    bundle = write_bundle(run, "vector")
    oof = join_oof(run)
    assert bundle.calibration == fit_vector(oof.probabilities, oof.y)
    assert bundle.operating_points == choose_points(nested_calibration(oof, "vector"))


def test_a_bundle_of_the_first_version_still_loads(run):
    def forget(values):
        for name in ("calibration", "prior", "operating_points", "conformal", "unlike"):
            del values[name]

    change(run, forget)
    bundle = read_bundle(run.path)
    assert (bundle.calibration, bundle.conformal, bundle.unlike_threshold) == (None, None, None)
    assert bundle.prior is None
    assert bundle.operating_points == []
    oof = read_predictions(run.oof, HAM10000)
    assert bundle.calibrated(oof) is oof
    assert bundle.threshold is not None


def test_a_run_of_benign_classes_alone_has_a_calibration_and_no_points(run):
    for fold in range(3):
        part = pd.read_csv(run.fold(fold).oof)
        part.assign(label="nv").to_csv(run.fold(fold).oof, index=False)
    bundle = write_bundle(run)
    assert bundle.calibration is not None
    assert bundle.operating_points == []
    assert bundle.threshold is None
    # No image of a class: the class is in no set, and the file says so without an infinity.
    assert set(bundle.conformal.thresholds[:5]) == {-np.inf}


def test_the_out_of_fold_table_is_joined_by_image_id_in_any_row_order(run):
    before = join_oof(run).table
    part = pd.read_csv(run.fold(1).oof)
    part.sample(frac=1, random_state=0).to_csv(run.fold(1).oof, index=False)
    pd.testing.assert_frame_equal(join_oof(run).table, before)
    assert set(before["fold"]) == {0, 1, 2}


def test_missing_folds_are_named_with_the_command_that_finishes_them(run):
    run.fold(0).done.unlink()
    shutil.rmtree(run.fold(2).path)
    with pytest.raises(UserError) as caught:
        write_bundle(run)
    assert "Not finished: 0, 2." in str(caught.value)
    assert f"python run.py cv --config {run.config} --run tiny" in str(caught.value)


def test_an_image_in_two_folds_is_refused(run):
    part = pd.read_csv(run.fold(1).oof)
    part.loc[0, "image_id"] = "train_0_0"
    part.to_csv(run.fold(1).oof, index=False)
    with pytest.raises(UserError, match="train_0_0"):
        join_oof(run)


def test_an_out_of_fold_table_of_another_fold_is_refused(run):
    shutil.copy(run.fold(0).oof, run.fold(1).oof)
    with pytest.raises(UserError, match="14 of another fold"):
        join_oof(run)


def test_an_out_of_fold_table_that_lost_rows_is_refused(run):
    part = pd.read_csv(run.fold(1).oof)
    part.iloc[:5].to_csv(run.fold(1).oof, index=False)
    with pytest.raises(UserError, match="must hold the 14 images that fold 1 held out"):
        join_oof(run)


def test_a_model_that_changed_since_its_fold_finished_is_not_bundled(run):
    shutil.copy(run.fold(0).model, run.fold(1).model)
    with pytest.raises(UserError, match="not the model that fold 1 finished with"):
        write_bundle(run)


def test_a_tampered_member_is_refused_by_name(run):
    with open(run.fold(1).model, "ab") as handle:
        handle.write(b"x")
    with pytest.raises(UserError, match=r"member .*fold_1/model.keras is not the one"):
        read_bundle(run.path)


def test_a_missing_member_is_refused_by_name(run):
    run.fold(2).model.unlink()
    with pytest.raises(UserError, match=r"member is missing: .*fold_2/model.keras"):
        read_bundle(run.path)


@pytest.mark.parametrize(
    "path", ["../tiny/fold_0/model.keras", "/etc/passwd", "fold_0/../../x", "..\\x", "C:\\x", ""]
)
def test_a_member_path_out_of_the_folder_is_refused(run, path):
    change(run, lambda values: values["members"][0].update(path=path))
    with pytest.raises(UserError, match=r"members.0.path: .*inside the bundle's folder"):
        read_bundle(run.path)


def test_a_link_out_of_the_folder_is_refused(run, tmp_path):
    outside = tmp_path / "outside.keras"
    shutil.move(run.fold(0).model, outside)
    os.symlink(outside, run.fold(0).model)
    with pytest.raises(UserError, match="leads out of the bundle's folder"):
        read_bundle(run.path)


def test_a_bundle_of_a_newer_format_asks_for_an_upgrade(run):
    change(run, lambda values: values.update(format=2, kderm="9.0.0", future="field"))
    with pytest.raises(UserError, match=r"Upgrade kderm to 9.0.0"):
        read_bundle(run.path)


def test_a_bundle_of_another_decoder_is_refused(run):
    change(run, lambda values: values["image"].update(decoder="another"))
    with pytest.raises(UserError, match="which gives other pixels"):
        read_bundle(run.path)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda values: values.update(note="x"), "note: Extra inputs"),
        (lambda values: values.pop("labels"), "labels: Field required"),
        (lambda values: values.update(combine="mean"), "combine: Input should be"),
        (lambda values: values.update(members=[]), "members: Tuple should have at least 1"),
        (lambda values: values["members"][1].update(fold=0), "must have different folds"),
        (lambda values: values["members"][0].update(scores={}), "must hold macro_auc"),
        (lambda values: values["malignant_threshold"].update(value=3), "malignant_threshold.value"),
        (lambda values: values["calibration"]["shift"].pop(), "calibration must have 7"),
        (lambda values: values["calibration"]["sharpness"].append(1.0), "calibration must have 7"),
        (
            lambda values: values["calibration"].update(sharpness=[0] * 7),
            "calibration.sharpness.0",
        ),
        (lambda values: values["calibration"].update(kind="platt"), "calibration.kind"),
        (lambda values: values["prior"]["images"].pop(), "prior: .*add up to 1"),
        (lambda values: values["prior"].update(answers=[1, *[0] * 6]), "of the same classes"),
        (
            lambda values: values["prior"].update(images=[0.5, 0.5], answers=[0.5, 0.5]),
            "prior must have 7 shares",
        ),
        (lambda values: values["operating_points"][0].update(value=2), "operating_points.0.value"),
        (lambda values: values["operating_points"][0].update(target="x"), "points speak of x"),
        (lambda values: values["conformal"]["classes"].pop("nv"), "conformal must name"),
        (
            lambda values: values.update(
                unlike={"file": "../x", "sha256": "0" * 64, "threshold": 3.0}
            ),
            "unlike.file: .*inside the bundle's folder",
        ),
    ],
)
def test_a_bundle_that_is_not_valid_says_where(run, spoil, told):
    change(run, spoil)
    with pytest.raises(UserError, match=told):
        read_bundle(run.path)


def test_a_bundle_that_is_no_json_is_refused(run):
    run.bundle.write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_bundle(run.path)


def test_a_run_without_a_bundle_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="cv --folds 5"):
        read_bundle(tmp_path)
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match=r"Finish the run first: .*cv --config .*config\.yaml"):
        read_bundle(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="Expected the folder of a run"):
        write_bundle(RunDir(tmp_path))


def test_a_moved_run_is_read_where_it_is_now(run, tmp_path):
    moved = shutil.move(run.path, tmp_path / "elsewhere")
    assert read_bundle(moved).digest
