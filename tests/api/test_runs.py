"""Data sets, folds, runs and evaluation from Python give what the command line gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kderm
from kderm.api.runs import exclusive_run, run_place
from kderm.config.schema import Config
from kderm.data.folds import read_folds


@pytest.fixture(scope="module")
def settings(tiny_overrides):
    """The tiny run's options, by their keys."""
    pairs = (override.split("=", 1) for override in tiny_overrides)
    return {key: value for key, value in pairs}


@pytest.fixture
def beside(finished, monkeypatch):
    """The folder that the command line's run lies in, as the current one."""
    monkeypatch.chdir(finished.path.parents[1])
    monkeypatch.delenv("KDERM_RUNS", raising=False)


def test_a_data_set_is_read_as_the_command_line_reads_it(beside, finished, settings):
    data = kderm.load_dataset(settings=settings)
    written = pd.read_csv(finished.manifest)
    assert data.table["image_id"].tolist() == written["image_id"].tolist()
    assert data.table["label"].tolist() == written["label"].tolist()
    assert sum(data.counts.values()) == len(data) == 105
    assert repr(data).startswith("Dataset(demo: 105 images; akiec 7, bcc")


def test_the_labels_are_the_data_sets_own_unless_named(tmp_path):
    with pytest.raises(kderm.UserError, match=r"ISIC_2019_Training_GroundTruth"):
        kderm.load_dataset("isic2019", tmp_path)
    with pytest.raises(kderm.UserError, match=r"ham10000"):
        kderm.load_dataset("ham1000", tmp_path)


def test_folds_are_those_that_prepare_makes(beside, finished, settings, tmp_path):
    data = kderm.load_dataset(settings=settings)
    folds = kderm.make_folds(data, 3, path=tmp_path / "folds.csv")
    assert folds.digest == kderm.load_run("tiny").folds.digest
    assert read_folds(tmp_path / "folds.csv", data.table, data.labels).digest == folds.digest
    assert kderm.make_folds(data, 3, seed=1).digest != folds.digest


def test_a_run_is_the_one_that_the_command_line_trains(
    finished, settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDERM_RUNS", raising=False)
    shutil.copytree(finished.path.parent / "_data", "runs/_data")
    data = kderm.load_dataset(settings=settings)
    run = kderm.cross_validate(data, kderm.make_folds(data, 3), run="mine", quiet=True)
    said = capsys.readouterr()
    assert said.out == ""
    theirs = pd.read_csv(finished.oof).sort_values("image_id", ignore_index=True)
    columns = run.labels.columns
    np.testing.assert_allclose(run.oof[columns], theirs[columns], atol=1e-4)
    assert run.report.is_file()
    assert run.metrics["n_images"] == 105
    assert run.ensemble().predict_proba([data.table["path"][0]]).shape == (1, 7)
    # Nothing beside it: the folds that were given are the run's own.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    again = kderm.cross_validate(data, kderm.make_folds(data, 3), run="mine", quiet=True)
    assert again.path == run.path
    # As if it had been started with a path of another kind.
    again = kderm.cross_validate(
        data, kderm.make_folds(data, 3), run=tmp_path / "runs" / "mine", report=False, quiet=True
    )
    assert again.name == "mine"
    with pytest.raises(kderm.UserError, match="other folds"):
        kderm.cross_validate(data, kderm.make_folds(data, 3, seed=1), run="mine", quiet=True)
    with pytest.raises(kderm.UserError, match=r"train\.epochs: 3 -> 4"):
        kderm.cross_validate(
            data, kderm.make_folds(data, 3), run="mine", settings={"train.epochs": 4}, quiet=True
        )


def test_options_are_checked_by_their_keys(beside, settings):
    with pytest.raises(kderm.UserError, match=r"Did you mean train\.epochs"):
        kderm.load_dataset(settings={"train.epoch": 3})
    data = kderm.load_dataset(settings=settings)
    with pytest.raises(kderm.UserError, match="letter or a digit"):
        kderm.cross_validate(data, run="_hidden")


def test_an_unfinished_run_says_how_to_finish_it(tmp_path):
    with pytest.raises(kderm.UserError, match=r"kderm\.cross_validate"):
        _ = kderm.load_run(tmp_path).metrics


def test_an_out_of_fold_table_gives_the_numbers_of_the_runs_report(finished):
    metrics = json.loads(finished.metrics.read_text())
    for table in (finished.oof, kderm.load_run(finished.path).oof):
        found = kderm.evaluate(table)
        assert (found["confusion"], found["n_groups"]) == (
            metrics["confusion"],
            metrics["n_groups"],
        )
        for name, told in metrics["pooled"].items():
            # The table holds seven digits, the report was made before they were rounded.
            assert found["pooled"][name] == pytest.approx(told, abs=1e-6, nan_ok=True)


def test_a_report_is_written_when_asked_for(finished, tmp_path):
    found = kderm.evaluate(finished.oof, report=tmp_path / "report", resamples=20, title="Mine")
    assert json.loads((tmp_path / "report" / "metrics.json").read_text()) == found
    assert "Mine" in (tmp_path / "report" / "report.md").read_text()


def test_a_table_of_predictions_is_scored_by_lesion(finished, unseen, tmp_path, capsys):
    ensemble = kderm.load_ensemble(finished.path)
    table = ensemble.predict(unseen)
    lesions = pd.read_csv(unseen).set_index("image_id")["lesion_id"]
    table["lesion_id"] = lesions.loc[table["image_id"]].to_numpy()
    by_image = kderm.evaluate(table.drop(columns="lesion_id"), resamples=20)
    by_lesion = kderm.evaluate(table, resamples=20)
    assert by_image["n_groups"] == 105 > by_lesion["n_groups"] == lesions.nunique()
    assert by_image["pooled"]["macro_auc"]["value"] == by_lesion["pooled"]["macro_auc"]["value"]
    table.loc[0, "label"] = ""
    table.loc[1, "error"] = "gone"
    assert kderm.evaluate(table, resamples=20)["n_images"] == 103
    assert "2 rows without a label or an answer" in capsys.readouterr().err


def test_classes_of_ones_own_need_their_label_space():
    rows = {"image_id": list("abcd"), "label": ["x", "y", "x", "y"]}
    table = pd.DataFrame(rows | {"p_x": [0.9, 0.2, 0.8, 0.4], "p_y": [0.1, 0.8, 0.2, 0.6]})
    with pytest.raises(kderm.UserError, match=r"Received: p_x, p_y.*kderm\.LabelSpace"):
        kderm.evaluate(table)
    space = kderm.LabelSpace("custom", ("x", "y"), ("X", "Y"), ("y",))
    assert kderm.evaluate(table, space, resamples=5)["pooled"]["macro_auc"]["value"] == 1.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("nowhere.csv", "No such file"),
        (pd.DataFrame({"image_id": ["a"], "p_mel": [1.0]}), "Received: p_mel"),
    ],
)
def test_what_is_no_table_of_predictions_is_refused(table, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kderm.UserError, match=words):
        kderm.evaluate(table)


def test_a_run_at_a_url_is_kept_there_and_makes_no_folder_of_that_name(
    beside, settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "cache"))
    there = tmp_path / "there"
    there.mkdir()
    data = kderm.load_dataset(settings=settings)
    place = run_place(data.config, f"file://{there}/mine/")
    assert place.name == "mine"
    assert place.path.is_relative_to(tmp_path / "cache")
    with exclusive_run(place):
        place.path.joinpath("config.yaml").write_text("a run")
    assert (there / "mine" / "config.yaml").read_text() == "a run"
    # What another machine has finished is brought.
    (there / "mine" / "folds.csv").write_text("theirs")
    assert run_place(data.config, f"file://{there}/mine").folds.read_text() == "theirs"


@pytest.mark.parametrize("run", [Path("s3://bucket/runs/mine"), "s3://mine", "memory://runs/_x"])
def test_a_url_that_names_no_run_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(kderm.UserError, match="Received: "):
        run_place(Config(), run)
