"""The recipes on HAM10000, each run end to end on a small data set in its layout."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.config.reading import load_config


def history_of(finished, fold):
    return pd.read_csv(finished.run.fold(fold).history)


# === ham10000_resnet50 ===


@pytest.fixture(scope="module")
def ham10000_resnet50(recipe, ham10000):
    # The copies of 70 images are 700 images an epoch: one is enough.
    return recipe(
        "ham10000_resnet50", f"data.root={ham10000}", "data.duplicates=null", "train.epochs=1"
    )


def test_ham10000_resnet50_shows_rare_classes_several_times_an_epoch(ham10000_resnet50, task_of):
    config = load_config(ham10000_resnet50.config)
    assert config.balance.by == ("repeat",)
    assert config.balance.repeat == {
        "akiec": 15,
        "bcc": 10,
        "bkl": 5,
        "df": 50,
        "mel": 5,
        "nv": 1,
        "vasc": 40,
    }
    folds = pd.read_csv(ham10000_resnet50.run.folds, comment="#")
    training = folds[folds["fold"] != 0]
    plan = task_of(ham10000_resnet50, 0).plan
    assert plan.length == training["label"].map(config.balance.repeat).sum() > 8 * len(training)
    assert np.bincount(plan.visits).max() == 50


def test_ham10000_resnet50_turns_by_twenty_degrees_and_jitters_by_a_tenth(ham10000_resnet50):
    augment = load_config(ham10000_resnet50.config).augment
    assert (augment.flip, augment.rotation) == (True, 20)
    assert {augment.brightness, augment.contrast, augment.saturation, augment.hue} == {0.1}
    assert augment.zoom == augment.shift == 0


def test_ham10000_resnet50_stops_by_the_validation_loss_and_draws_its_curves(ham10000_resnet50):
    train = load_config(ham10000_resnet50.config).train
    assert (train.monitor, train.checkpoint, train.patience) == ("loss", "best", 4)
    assert (train.learning_rate, train.schedule, train.weight_decay) == (1e-3, "constant", 0)
    assert history_of(ham10000_resnet50, 0)["learning_rate"].tolist() == [pytest.approx(1e-3)]
    assert (ham10000_resnet50.run.figures / "training_curves.png").stat().st_size > 0


# === ham10000_b3 ===


@pytest.fixture(scope="module")
def ham10000_b3(recipe, ham10000):
    return recipe("ham10000_b3", f"data.root={ham10000}", "data.duplicates=null")


def test_ham10000_b3_is_a_focal_loss_with_weighted_sampling_and_three_views(ham10000_b3):
    config = load_config(ham10000_b3.run.config)
    assert (config.loss.name, config.loss.gamma) == ("focal", 2)
    assert (config.balance.by, config.balance.scheme) == (("sampler",), "balanced")
    assert json.loads(ham10000_b3.run.bundle.read_text())["views"] == "flips"
    assert "warning" in ham10000_b3.output  # focal loss on top of a sampler


def test_ham10000_b3_keeps_lesions_together(ham10000_b3):
    folds = pd.read_csv(ham10000_b3.run.folds, comment="#")
    manifest = pd.read_csv(ham10000_b3.run.manifest)
    rows = folds.merge(manifest, on="image_id")
    assert (rows.groupby("lesion_id")["fold"].nunique() == 1).all()
    assert rows["lesion_id"].nunique() < len(rows)


def test_ham10000_b3_draws_a_grad_cam_of_each_class(ham10000_b3):
    with Image.open(ham10000_b3.run.grad_cam) as picture:
        assert min(picture.size) > 300
    assert "figures/grad_cam.png" in ham10000_b3.run.report.read_text()


def test_ham10000_b3_is_tested_on_class_folders_without_the_image_it_knows(
    ham10000_b3, class_folders, invoke
):
    run = str(ham10000_b3.run.path)
    output = invoke("evaluate", run, "--external", str(class_folders))
    places = list(ham10000_b3.run.external.glob("*/predictions.csv"))
    assert len(places) == 1
    answers = pd.read_csv(places[0])
    assert len(answers) == 14
    assert not answers["image_id"].str.contains("clinic_seen").any()
    overlap = pd.read_csv(places[0].with_name("overlap.csv"))
    assert overlap["by"].tolist() == ["digest"]
    assert "1" in output
    assert places[0].with_name("report.md").exists()


# === ham10000_b0_robust ===


@pytest.fixture(scope="module")
def ham10000_b0_robust(recipe, ham10000):
    pytest.importorskip("cv2")
    pytest.importorskip("tensorboard")
    return recipe(
        "ham10000_b0_robust",
        f"data.root={ham10000}",
        "data.duplicates=null",
        "train.frozen_epochs=1",
    )


def test_ham10000_b0_robust_removes_hair_and_evens_contrast_also_when_predicting(
    ham10000_b0_robust,
):
    bundle = json.loads(ham10000_b0_robust.run.bundle.read_text())
    assert bundle["image"]["preprocess"] == ["hair_removal", "clahe"]


def test_ham10000_b0_robust_mixes_samples_and_weighs_and_is_warned(ham10000_b0_robust):
    config = load_config(ham10000_b0_robust.run.config)
    assert config.balance.by == ("sampler", "weights")
    assert config.augment.mixup == config.augment.cutmix == 0.3
    assert "sampler" in ham10000_b0_robust.output
    assert "warning" in ham10000_b0_robust.output


def test_ham10000_b0_robust_keeps_best_last_and_average(ham10000_b0_robust):
    for fold in range(2):
        place = ham10000_b0_robust.run.fold(fold)
        kept = {kind: place.kept(kind).read_bytes() for kind in ("best", "last", "ema")}
        assert kept["ema"] != kept["last"]
        assert place.model.exists()


def test_ham10000_b0_robust_trains_the_head_first_and_logs_to_tensorboard(ham10000_b0_robust):
    assert history_of(ham10000_b0_robust, 0)["phase"].tolist() == ["frozen", "fine_tune"]
    train = load_config(ham10000_b0_robust.config).train
    assert (train.schedule, train.monitor, train.patience) == ("plateau", "macro_f1", 5)
    assert (train.precision, train.frozen_epochs) == ("auto", 3)
    events = list(ham10000_b0_robust.run.fold(0).tensorboard.rglob("events.out.tfevents.*"))
    assert events
    assert ham10000_b0_robust.run.grad_cam.exists()
