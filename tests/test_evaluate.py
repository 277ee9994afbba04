"""`evaluate`: what it tells of a run, and what it takes in about the images."""

import pandas as pd
import pytest

from kderm.api.report_facts import MODALITIES, input_words, modality
from kderm.commands.results import keep_about
from kderm.config.schema import Config
from kderm.data.datasets import DATASETS
from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.labels import HAM10000
from kderm.run_dir import RunDir


def test_every_kind_of_data_set_says_how_its_pictures_were_taken():
    assert list(MODALITIES) == list(DATASETS)


def test_pictures_of_joined_data_sets_are_told_apart_or_left_to_the_author():
    def of(*kinds):
        sources = [{"dataset": kind, "root": kind, "name": f"{j}"} for j, kind in enumerate(kinds)]
        return modality(Config.model_validate({"data": {"sources": sources}}))

    assert of("ham10000", "isic2019") == "dermoscopic pictures"
    assert of("ham10000", "pad_ufes20") == "dermoscopic pictures and smartphone photographs"
    assert of("ham10000", "table") is None
    assert modality(Config()) == "drawings by a program"


def test_the_input_is_told_in_words():
    image = {"size": 128, "stored_height": 150, "stored_aspect": 200 / 150}
    told = input_words(Config.model_validate({"image": image}))
    assert told == "128 × 128 px, cut from images kept at 200 × 150 px (width × height)"


@pytest.fixture
def run(tmp_path, monkeypatch):
    table = pd.DataFrame(1 / 7, index=range(20), columns=HAM10000.columns)
    table = table.assign(label="nv", fold=0, sex="male", image_id=[f"i{j}" for j in range(20)])
    table["group_id"] = table["image_id"]
    joined = make_predictions(table, HAM10000)
    monkeypatch.setattr("kderm.ensemble.bundle.join_oof", lambda run: joined)
    (tmp_path / "run").mkdir()
    return RunDir(tmp_path / "run")


def about(tmp_path, ids, **columns):
    path = tmp_path / "about.csv"
    pd.DataFrame({"image_id": ids, **columns}).to_csv(path, index=False)
    return path


def test_what_is_known_of_other_images_is_refused(run, tmp_path):
    path = about(tmp_path, ["x", "y"], skin_tone=["I", "II"])
    with pytest.raises(UserError, match=r"such as i0\. Received: 2 rows, none .* such as x\."):
        keep_about(run, path)
    assert not run.about_images.exists()


def test_what_the_run_already_knows_is_refused_by_name(run, tmp_path):
    path = about(tmp_path, ["i0", "i1"], sex=["female", "male"])
    with pytest.raises(UserError, match="Received: only sex, which the run has already"):
        keep_about(run, path)
    path = about(tmp_path, ["i0", "y"], skin_tone=["", "II"])
    with pytest.raises(UserError, match="Received: nothing"):
        keep_about(run, path)
    assert not run.about_images.exists()


def test_it_is_said_of_how_many_images_something_is_known_and_what_is_ignored(run, tmp_path):
    path = about(tmp_path, ["i0", "i1", "x"], skin_tone=["I", "II", "I"], sex=["male"] * 3)
    said = keep_about(run, path)
    assert said.endswith(
        "about 2 of the run's 20 images; 1 row of other images; sex stay those of the run."
    )
    assert pd.read_csv(run.about_images)["image_id"].tolist() == ["i0", "i1", "x"]
