"""Pseudo-labels of a tiny ensemble; `run`, `images` and `predict` are in conftest."""

import inspect
import shutil

import numpy as np
import pandas as pd
import pytest

from kderm.atomic import write_json
from kderm.data.datasets import read_dataset
from kderm.data.store import build_store, store_digest
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.pseudo import (
    CAUTION,
    THRESHOLD,
    check_threshold,
    class_shares,
    pseudo_label,
    sure_answers,
    without_known,
)
from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.labels import BINARY, HAM10000
from kderm.run_dir import RunDir, store_dir


@pytest.fixture
def answers(trained, images, tmp_path, predict):
    """What the ensemble says of the nine images: p_<code> by image id."""
    _, table = predict(trained, [images], tmp_path / "answers")
    return table[HAM10000.columns].astype(float)


@pytest.fixture
def middle(answers):
    """A threshold that some of the nine images reach and some do not."""
    return float(answers.max(axis=1).median())


def pseudo(run, sources, **options):
    return pseudo_label(run, [str(source) for source in sources], **{"batch_size": 4} | options)


def test_the_images_that_the_ensemble_is_sure_of_get_its_answer(run, images, answers, middle):
    found = pseudo(run, [images], threshold=middle)
    sure = answers[answers.max(axis=1) >= middle].sort_index()
    assert 0 < len(sure) < 9
    assert found.table["image_id"].tolist() == sure.index.tolist()
    assert found.table["label"].tolist() == [
        name.removeprefix("p_") for name in sure.idxmax(axis=1)
    ]
    assert found.table["probability"].to_numpy() == pytest.approx(sure.max(axis=1).to_numpy())
    assert found.by_class["kept"].sum() == len(sure)
    assert found.by_class["predicted"].sum() == found.images == 9


def test_what_was_found_is_on_disk_and_reads_as_a_data_set(run, images, middle):
    found = pseudo(run, [images], threshold=middle)
    assert found.path == run.pseudo_labels
    rows = read_dataset("table", images.parent, HAM10000, run.pseudo_labels).table
    assert rows["image_id"].tolist() == found.table["image_id"].tolist()
    assert rows["label"].tolist() == found.table["label"].tolist()
    assert all(str(images) in path for path in rows["path"])


def test_images_with_the_id_of_a_training_image_are_left_out(run, images, picture, middle):
    picture(images / "train_0_3.png", 1)
    picture(images / "below" / "train_2_0.png", 2)
    found = pseudo(run, [images], threshold=middle)
    assert (found.known, found.images) == (2, 9)
    assert not found.table["image_id"].str.startswith("train_").any()
    assert "2 left out" in str(found)
    assert CAUTION in str(found)


def test_archive_ids_are_known_under_their_aliases_too(run, tmp_path, picture):
    oof = pd.read_csv(run.oof)
    oof.loc[:2, "image_id"] = ["ISIC_0000007", "ISIC_0000008", "scan_1"]
    oof.to_csv(run.oof, index=False)
    names = ("ISIC_0000007_downsampled", "isic_0000008", "ISIC_0000009", "scan_1", "scan_2")
    for number, name in enumerate(names):
        picture(tmp_path / "more" / f"{name}.png", number)
    inputs = find_inputs([str(tmp_path / "more")], HAM10000)
    left, compared = without_known(run, read_bundle(run.path), inputs)
    assert left.table["image_id"].tolist() == ["ISIC_0000009", "scan_2"]
    assert compared.startswith("by id; ")
    assert "(the run's decoded images are gone" in compared


def test_copies_of_the_runs_images_under_other_names_are_left_out(
    run, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("KDERM_RUNS", str(tmp_path / "runs"))
    own = pd.read_csv(run.oof)["image_id"].tolist()[:3]
    paths = sorted(images.glob("*.png"))[:3]  # the run's own, and in the folder too
    manifest = pd.DataFrame({"image_id": own, "path": paths, "label": "nv"})
    manifest.to_csv(run.manifest, index=False)
    bundle = read_bundle(run.path)
    digest = store_digest(own, paths, bundle.spec)
    build_store(store_dir(digest), own, paths, bundle.spec)
    write_json(run.store, {"digest": digest})
    left, compared = without_known(run, bundle, find_inputs([str(images)], HAM10000))
    assert left.table["image_id"].tolist() == [f"lesion_{n}" for n in range(3, 9)]
    assert compared.startswith("by id, file and picture; ")


def test_further_images_of_the_runs_lesions_and_patients_are_left_out(run, images):
    own = pd.read_csv(run.oof)["image_id"].tolist()[:2]
    known = {"lesion_id": ["HAM_0000001", "5"], "patient_id": ["", "IP_0000002"]}
    manifest = pd.DataFrame({"image_id": own, "path": "", "label": "nv", **known})
    manifest.to_csv(run.manifest, index=False)
    told = {
        "image_id": [f"lesion_{n}" for n in range(4)],
        "lesion_id": ["HAM_0000001", "", "HAM_0000003", "5"],
        "patient_id": ["", "IP_0000002", "", ""],
    }
    pd.DataFrame(told).to_csv(images / "list.csv", index=False)
    inputs = find_inputs([str(images / "list.csv")], HAM10000)
    left, compared = without_known(run, read_bundle(run.path), inputs)
    assert left.table["image_id"].tolist() == ["lesion_2", "lesion_3"]
    assert compared.startswith("by id, by lesion and by patient")
    assert (
        "1 image with a lesion or patient id that the run has too, for example lesion_3,"
        in compared
    )


def test_labels_that_are_known_are_not_looked_at(run, images, answers, middle):
    shutil.move(images, images.parent / "mel")  # now a class folder
    found = pseudo(run, [images.parent / "mel"], threshold=middle)
    expected = answers.idxmax(axis=1).str.removeprefix("p_")
    assert found.table["label"].tolist() == expected[found.table["image_id"]].tolist()
    assert set(found.table["label"]) != {"mel"}
    assert not list(run.path.rglob("pseudo_labels/report.md"))


def test_what_a_table_says_of_an_image_is_kept(run, images, middle):
    ids = [f"lesion_{n}" for n in range(9)]
    table = pd.DataFrame({"image_id": ids, "age": range(40, 49), "patient_id": "P1"})
    table.to_csv(images / "clinic.csv", index=False)
    found = pseudo(run, [images / "clinic.csv"], threshold=middle).table
    assert found["age"].tolist() == [str(40 + int(name[-1])) for name in found["image_id"]]
    assert (found["patient_id"] == "P1").all()
    assert (found["sex"] == "").all()


def test_unreadable_images_are_counted(run, images, middle):
    (images / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    found = pseudo(run, [images], threshold=middle)
    assert (found.unreadable, found.images) == (1, 10)
    assert "broken" not in set(found.table["image_id"])
    assert "1 could not be read" in str(found)


def test_sources_of_the_runs_own_images_alone_are_refused(run, picture, tmp_path):
    picture(tmp_path / "own" / "train_1_1.png", 1)
    with pytest.raises(UserError, match="not trained on"):
        pseudo(run, [tmp_path / "own"])


def test_an_ensemble_that_is_sure_of_nothing_says_how_sure_it_was(run, images, answers):
    highest = answers.max(axis=None)
    with pytest.raises(UserError, match=rf"{highest:.3f}.*Lower the threshold"):
        pseudo(run, [images], threshold=min(1.0, highest + 1e-6))
    assert not run.pseudo_labels.exists()


def test_images_that_cannot_be_read_at_all_are_refused(run, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(UserError, match="Not one of the unlabelled images can be read"):
        pseudo(run, [tmp_path / "bad"])


def test_the_usual_threshold_is_the_one_that_is_named_and_used():
    usual = inspect.signature(pseudo_label).parameters["threshold"].default
    assert usual == THRESHOLD
    check_threshold(THRESHOLD, 2)
    with pytest.raises(UserError, match=f"A usual one is {THRESHOLD}"):
        check_threshold(2.0, 2)


@pytest.mark.parametrize("threshold", [0.0, 1 / 7, 1.01, float("nan")])
def test_a_threshold_that_means_nothing_is_refused(run, images, threshold):
    with pytest.raises(UserError, match=r"7 classes.*Received"):
        pseudo(run, [images], threshold=threshold)


def test_a_run_without_an_ensemble_is_refused(tmp_path, images):
    with pytest.raises(UserError, match=r"ensemble\.json"):
        pseudo(RunDir(tmp_path / "nothing"), [images])


def test_a_probability_of_just_the_threshold_is_sure():
    table = pd.DataFrame({"image_id": ["b", "a", "c"], "p_benign": [0.9, 0.1, 0.8999]})
    table["p_malignant"] = 1 - table["p_benign"]
    found = sure_answers(table, BINARY, 0.9)
    assert found["image_id"].tolist() == ["a", "b"]
    assert found["label"].tolist() == ["malignant", "benign"]
    assert found["probability"].tolist() == [0.9, 0.9]


def test_shares_by_class_are_told_beside_what_sure_answers_were_worth_out_of_fold():
    oof = pd.DataFrame(
        {
            "image_id": list("abcde"),
            "label": ["benign", "benign", "malignant", "malignant", "benign"],
            "p_benign": [0.99, 0.95, 0.92, 0.6, 0.05],
        }
    )
    oof["p_malignant"] = 1 - oof["p_benign"]
    answers = pd.DataFrame({"p_benign": [0.95, 0.7, 0.2]}).assign(p_malignant=[0.05, 0.3, 0.8])
    table = class_shares(answers, make_predictions(oof, BINARY), 0.9)
    assert table.loc["benign"].tolist() == pytest.approx([2, 1, 0.6, 3, 2 / 3])
    assert table.loc["malignant"].tolist() == pytest.approx([1, 0, 0.4, 1, 0.0])
    unsure = class_shares(answers, make_predictions(oof, BINARY), 0.995)
    assert unsure["oof"].tolist() == [0, 0]
    assert np.isnan(unsure["right"]).all()
