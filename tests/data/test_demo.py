"""The demo data: HAM10000's layout, whole or absent, the same for the same seed, not trivial."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kderm.data.datasets import demo, read_dataset
from kderm.data.datasets.demo import METADATA_NAME, plan_demo, write_demo
from kderm.data.datasets.demo_drawing import CLASS_COLOURS, CLASS_LOOKS, FEATURES, LOOKALIKES
from kderm.data.folds import class_table, make_folds
from kderm.data.manifest import build_manifest
from kderm.errors import UserError
from kderm.labels import HAM10000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "demo"
    write_demo(root, 70, seed=3, height=32)
    return root


def fingerprint(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_demo_lies_on_disk_as_ham10000_does(small):
    table = pd.read_csv(small / METADATA_NAME)
    assert ",".join(table.columns) == "lesion_id,image_id,dx,dx_type,age,sex,localization"
    for part in ("HAM10000_images_part_1", "HAM10000_images_part_2"):
        assert len(list((small / part).glob("*.jpg"))) == 35
    with Image.open(next(small.rglob("*.jpg"))) as image:
        assert (image.size, image.mode) == ((43, 32), "RGB")


def test_the_demo_passes_every_check_of_the_manifest(small):
    manifest, problems = build_manifest(read_dataset("demo", small, HAM10000), HAM10000)
    assert problems == []
    assert len(manifest) == 70
    assert manifest.dropped == {}


@pytest.mark.parametrize("images", [70, 140, 560])
def test_every_class_is_in_each_of_five_folds(images):
    table = plan_demo(images, seed=0).rename(columns={"dx": "label"}).assign(patient_id=None)
    counts = class_table(make_folds(table, HAM10000, 5, 42)).drop(index="all")
    assert counts["total"].sum() == images
    assert (counts > 0).all().all()


def test_the_plan_has_the_imbalance_repeats_and_gaps_of_ham10000():
    table = plan_demo(10015, seed=0)
    counts = table["dx"].value_counts()
    lesions = table.drop_duplicates("lesion_id")
    assert counts.to_dict() == {code: n for code, (n, _) in demo._COUNTS.items()}
    assert len(lesions) == 7470
    assert (table.groupby("lesion_id")["dx"].nunique() == 1).all()
    assert table["image_id"].is_unique
    assert table.groupby("lesion_id").size().max() >= 3
    assert 0.01 < lesions["age"].isna().mean() < 0.05
    assert 0.01 < (lesions["sex"] == "unknown").mean() < 0.05
    assert 0.01 < (lesions["localization"] == "unknown").mean() < 0.05
    ages = lesions.groupby("dx")["age"].mean()
    assert ages["nv"] + 10 < ages["mel"]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    write_demo(tmp_path / "same", 70, seed=3, height=32)
    write_demo(tmp_path / "other", 70, seed=4, height=32)
    assert fingerprint(tmp_path / "same") == fingerprint(small)
    assert fingerprint(tmp_path / "other") != fingerprint(small)


def test_a_whole_demo_is_left_as_it_is(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.jpg")}
    write_demo(small, 70, seed=3, height=32)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*.jpg")} == before


def test_a_demo_of_another_recipe_or_with_missing_images_is_refused(small, tmp_path):
    with pytest.raises(UserError, match=r"'images': 71.*with 70 demo images.*'images': 70"):
        write_demo(small, 71, seed=3, height=32)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(UserError, match="Delete the folder, or choose another"):
        write_demo(tmp_path / "mine", 70, seed=3, height=32)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "do not overwrite"


def test_an_interrupted_demo_leaves_no_folder(tmp_path):
    def stop(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", 70, height=32, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_image(tmp_path):
    seen = []
    write_demo(tmp_path / "demo", 70, height=32, progress=lambda *step: seen.append(step))
    assert seen == [(done, 70) for done in range(1, 71)]


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="at least 70"):
        write_demo(tmp_path / "demo", 69)


def test_the_recipe_is_written_beside_the_images(small):
    recipe = json.loads((small / "demo.json").read_text())
    assert (recipe["images"], recipe["seed"], recipe["height"]) == (70, 3, 32)


def test_every_class_has_a_look_colours_and_lookalikes_of_other_classes():
    for table in (CLASS_LOOKS, CLASS_COLOURS, LOOKALIKES):
        assert tuple(table) == HAM10000.codes
    assert {len(look) for look in CLASS_LOOKS.values()} == {len(FEATURES)}
    for code, others in LOOKALIKES.items():
        assert set(others) <= set(HAM10000.codes) - {code}


def test_mean_colour_tells_the_classes_apart_somewhat_but_far_from_perfectly(tmp_path):
    write_demo(tmp_path / "demo", 300, seed=0, height=32)
    manifest, _ = build_manifest(read_dataset("demo", tmp_path / "demo", HAM10000), HAM10000)
    table = manifest.table.merge(make_folds(manifest.table, HAM10000, 5, 0).table)
    colours = np.stack([np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in table["path"]])
    scores = np.zeros((len(table), len(HAM10000)))
    for fold in range(5):
        held_out = (table["fold"] == fold).to_numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(colours[~held_out], table["label"][~held_out])
        scores[held_out] = model.predict_proba(colours[held_out])
    truth = table["label"].to_numpy()[:, None] == np.array(HAM10000.codes)
    assert 0.55 < roc_auc_score(truth, scores, average="macro") < 0.88
