"""The recipes of the ISIC challenges, each run end to end in the layout of its own data set."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from kderm.config.reading import load_config


def metrics_of(finished):
    return json.loads(finished.run.metrics.read_text())


def oof_of(finished):
    return pd.read_csv(finished.run.oof)


def manifest_of(finished):
    return pd.read_csv(finished.run.manifest, keep_default_na=False)


def folds_of(finished):
    return pd.read_csv(finished.run.folds, comment="#")


# === isic2020_b0 ===


@pytest.fixture(scope="module")
def isic2020_b0(recipe, isic2020):
    return recipe("isic2020_b0", f"data.root={isic2020}")


def test_isic2020_b0_weighs_melanomas_by_the_ratio_in_the_training_folds(isic2020_b0, task_of):
    rows = folds_of(isic2020_b0)
    ratios = []
    for fold in range(2):
        training = rows[rows["fold"] != fold]["label"]
        ratios.append((training == "benign").sum() / (training == "malignant").sum())
        weights = task_of(isic2020_b0, fold).plan.weights
        assert weights.tolist() == pytest.approx([1, ratios[-1]])
    assert ratios[0] != ratios[1]
    assert load_config(isic2020_b0.config).loss.name == "binary_cross_entropy"
    assert load_config(isic2020_b0.config).model.preset == "keras_applications/efficientnetb0"


def test_isic2020_b0_keeps_patients_together(isic2020_b0):
    rows = folds_of(isic2020_b0).merge(manifest_of(isic2020_b0), on="image_id")
    assert rows["patient_id"].nunique() == 17
    assert (rows.groupby("patient_id")["fold"].nunique() == 1).all()


def test_isic2020_b0_keeps_the_epoch_of_the_best_auc(isic2020_b0):
    for fold in range(2):
        history = pd.read_csv(isic2020_b0.run.fold(fold).history)
        best = history["val_macro_auc"].max()
        assert history.loc[history["chosen"] == 1, "val_macro_auc"].tolist() == [best]
    assert "chosen" in isic2020_b0.run.report.read_text()


def test_isic2020_b0_reports_roc_confusion_classes_and_the_chosen_threshold(isic2020_b0):
    report = isic2020_b0.run.report.read_text()
    for part in ("figures/roc.png", "figures/confusion.png", "sensitivity", "precision", "Youden"):
        assert part in report, part
    assert (isic2020_b0.run.figures / "roc.png").stat().st_size > 0


# === isic2018_resnet18 ===


@pytest.fixture(scope="module")
def isic2018_resnet18(recipe, isic2018):
    return recipe("isic2018_resnet18", f"data.root={isic2018}")


def test_isic2018_resnet18_trains_on_the_training_part_alone_with_its_lesions(isic2018_resnet18):
    rows = folds_of(isic2018_resnet18).merge(manifest_of(isic2018_resnet18), on="image_id")
    assert len(rows) == 56
    assert set(rows["source"]) == {"training"}
    assert (rows.groupby("lesion_id")["fold"].nunique() == 1).all()


def test_isic2018_resnet18_reports_macro_and_weighted_f1_and_auc_of_each_class(isic2018_resnet18):
    metrics = metrics_of(isic2018_resnet18)
    assert {"macro_f1", "weighted_f1", "macro_auc"} <= set(metrics["pooled"])
    report = isic2018_resnet18.run.report.read_text()
    assert all(f"| {code} |" in report for code in ("akiec", "bcc", "mel", "vasc"))


def test_isic2018_resnet18_switches_to_weighted_sampling_by_one_key(isic2018_resnet18):
    config = load_config(isic2018_resnet18.config, ["balance.by=[sampler]"])
    assert config.balance.by == ("sampler",)
    assert config.balance.scheme == "balanced"


def test_isic2018_resnet18_has_the_normalisation_of_imagenet():
    from kderm.models.presets import find_preset

    assert find_preset("keras_hub/resnet_18_imagenet").convention == "imagenet"


# === isic2019_challenge ===


@pytest.fixture(scope="module")
def isic2019_challenge(recipe, isic2019):
    return recipe("isic2019_challenge", f"data.root={isic2019}")


def test_isic2019_challenge_predicts_nine_classes_of_which_one_never_came(isic2019_challenge):
    table = oof_of(isic2019_challenge)
    codes = ["ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc", "unk"]
    assert [name[2:] for name in table if name.startswith("p_")] == codes
    assert table[[f"p_{code}" for code in codes]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert metrics_of(isic2019_challenge)["pooled"]["macro_auc"]["value"] is not None


def test_isic2019_challenge_weighs_classes_by_the_inverse_of_their_frequency(
    isic2019_challenge, task_of
):
    task = task_of(isic2019_challenge, 0)
    counts = np.bincount(task.images.train_labels, minlength=9)
    assert counts[8] == task.plan.weights[8] == 0
    products = task.plan.weights[:8] * counts[:8]
    assert products == pytest.approx(products.mean())


def test_isic2019_challenge_records_its_preprocessing_and_metadata_for_prediction(
    isic2019_challenge,
):
    bundle = json.loads(isic2019_challenge.run.bundle.read_text())
    assert bundle["image"]["preprocess"] == ["border_crop", "shades_of_gray"]
    columns = [column["name"] for column in bundle["metadata"]["columns"]]
    assert columns == ["age", "sex", "site"]
    assert bundle["views"] == "multi_crop"


def test_isic2019_challenge_answers_images_with_and_without_metadata(
    isic2019_challenge, isic2019, invoke
):
    folder = isic2019 / "ISIC_2019_Training_Input"
    run = str(isic2019_challenge.run.path)
    output = invoke("ensemble-predict", str(folder), "--run", run, "--out", f"{run}/bare")
    answers = pd.read_csv(isic2019_challenge.run.path / "bare" / "predictions.csv")
    assert len(answers) == 64
    assert np.isfinite(answers["p_mel"]).all()
    assert "the members look at age, sex, site" in output


def test_isic2019_challenge_groups_images_without_a_lesion_id_alone(isic2019_challenge):
    rows = folds_of(isic2019_challenge).merge(manifest_of(isic2019_challenge), on="image_id")
    alone = rows[rows["image_id"].str.endswith("_downsampled")]
    assert len(alone) == 8
    assert (rows.groupby("group_id")["image_id"].count()[alone["group_id"]] == 1).all()


# === isic2020_winner ===


@pytest.fixture(scope="module")
def isic2020_winner(recipe, isic2020, isic2019):
    first = f"{{dataset: isic2020, root: {isic2020}}}"
    second = f"{{dataset: isic2019, root: {isic2019}}}"
    return recipe("isic2020_winner", f"data.sources=[{first}, {second}]")


def test_isic2020_winner_joins_both_years_in_nine_diagnoses_each_picture_once(
    isic2020_winner, isic2019, isic2020
):
    kept = isic2020 / "train" / "ISIC_0200064.jpg"
    left_out = isic2019 / "ISIC_2019_Training_Input" / "ISIC_0100000.jpg"
    assert kept.read_bytes() == left_out.read_bytes()
    manifest = manifest_of(isic2020_winner)
    assert manifest["source"].value_counts().to_dict() == {"isic2020": 65, "isic2019": 63}
    assert "ISIC_0100000" not in set(manifest["image_id"])
    assert set(manifest["label"]) == {"ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc", "unk"}


def test_isic2020_winner_reports_melanoma_against_all_else(isic2020_winner):
    metrics = metrics_of(isic2020_winner)
    assert metrics["pooled"]["malignant_auc"]["value"] is not None
    table = oof_of(isic2020_winner)
    from sklearn.metrics import roc_auc_score

    expected = roc_auc_score(table["label"] == "mel", table["p_mel"])
    assert metrics["pooled"]["malignant_auc"]["value"] == pytest.approx(expected)


def test_isic2020_winner_is_not_taken_for_the_drawn_demo(isic2020_winner):
    assert "SYNTHETIC" not in isic2020_winner.output
    assert "SYNTHETIC" not in isic2020_winner.run.report.read_text()
    assert not json.loads(isic2020_winner.run.bundle.read_text())["synthetic"]


def test_isic2020_winner_keeps_five_dropout_masks_and_the_metadata_branch(isic2020_winner):
    member = keras.models.load_model(isic2020_winner.run.fold(0).model, compile=False)
    assert len(member.inputs) == 2
    config = load_config(isic2020_winner.run.config)
    assert (config.model.dropout_samples, config.predict.views) == (5, "d4")
    assert config.balance.by == ()
    assert config.augment.cutout == 0.7
