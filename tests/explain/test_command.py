"""`explain` and `ensemble-predict --explain`, from the command line to the files."""

import hashlib
import json
import re

import pandas as pd
import pytest
from click.testing import CliRunner

from kderm.atomic import write_csv, write_json
from kderm.cli import main
from kderm.commands.explanation import named
from kderm.ensemble.bundle import write_bundle
from kderm.errors import UserError


def bundled(run):
    """The run with what its ensemble needs: the folds' own tables, and their digests."""
    oof = pd.read_csv(run.oof)
    for fold in range(3):
        place, part = run.fold(fold), oof[oof["fold"] == fold]
        write_csv(place.oof, part)
        done = json.loads(place.done.read_text()) | {
            "scores": {"macro_auc": 0.7},
            "held_out_images": len(part),
            "model_sha256": hashlib.sha256(place.model.read_bytes()).hexdigest(),
        }
        write_json(place.done, done)
    write_bundle(run)
    return run


@pytest.fixture
def finished(run, monkeypatch):
    """A finished run in runs/, with its bundle."""
    monkeypatch.setenv("KDERM_RUNS", str(run.path.parent))
    return bundled(run)


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_explain_a_run_writes_its_sheets_and_the_checks(finished):
    done = call("explain", "tiny", "--each", 1, "--views", "none", "--check", 3)
    assert done.exit_code == 0, done.output
    place = finished.path / "explanations"
    assert len(list(place.glob("sheet_*.jpg"))) == 7
    assert len(pd.read_csv(place / "checks.csv")) == 3
    assert "deletion" in done.output
    assert str(place) in done.output


def test_explain_without_a_word_is_of_the_last_finished_run(finished, tmp_path):
    done = call("explain", "--each", 1, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "maps.csv").is_file()


def test_explain_images_predicts_them_and_draws_their_maps(finished, tmp_path):
    done = call("explain", tmp_path / "images", "--run", "tiny", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    maps = pd.read_csv(tmp_path / "out" / "explanations" / "maps.csv")
    assert len(predictions) == 21
    answer = predictions.set_index("image_id")["predicted"]
    assert (answer.loc[maps["image_id"]].to_numpy() == maps["predicted"]).all()
    overlays = tmp_path / "out" / "explanations" / "overlays"
    assert len(list(overlays.iterdir())) == 21


def test_ensemble_predict_explains_only_where_asked_and_skips_unreadable_files(finished, tmp_path):
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    words = ("ensemble-predict", tmp_path / "images", "--run", "tiny", "--out", tmp_path / "out")
    assert call(*words).exit_code == 0
    assert not (tmp_path / "out" / "explanations").exists()
    done = call(*words, "--explain", "--views", "flips")
    assert done.exit_code == 0, done.output
    maps = pd.read_csv(tmp_path / "out" / "explanations" / "maps.csv")
    assert len(maps) == 42
    assert "broken" not in set(maps["image_id"])


def test_the_pictures_of_an_earlier_call_are_no_input(finished, tmp_path):
    images = tmp_path / "images"
    words = ("explain", images, "--run", "tiny", "--out", images, "--views", "none")
    assert call(*words).exit_code == 0
    again = call(*words)
    assert again.exit_code == 2
    assert "explanations" in again.output
    assert len(list((images / "explanations" / "overlays").iterdir())) == 21


def test_members_with_metadata_explain_images_with_and_without_them(
    run_with_metadata, monkeypatch, tmp_path
):
    monkeypatch.setenv("KDERM_RUNS", str(run_with_metadata.path.parent))
    bundled(run_with_metadata)
    manifest = pd.read_csv(run_with_metadata.manifest).iloc[:4]
    manifest[["image_id", "path", "age"]].to_csv(tmp_path / "known.csv", index=False)
    done = call("explain", tmp_path / "known.csv", "--run", "tiny", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(tmp_path / "out" / "explanations" / "maps.csv")) == 8


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("explain", "images", "--each", 2), "--each belong"),
        (("explain", "images", "--check", 2), "--check belong"),
        (("explain", "tiny", "--batch-size", 2), "--batch-size belongs to images"),
        (("explain", "tinny"), "Runs in .* that are finished: tiny."),
        (("explain", "tiny", "--layer", "stem_rely"), "stem_relu"),
        (("explain", "tiny", "--views", "flops"), "flips"),
    ],
)
def test_a_mistake_is_one_paragraph(finished, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    done = call(*words)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert re.search(told, done.output), done.output


def test_a_run_is_known_by_name_and_by_folder_and_images_are_no_run(finished, tmp_path):
    assert named(["tiny"], None).path == finished.path
    assert named([str(finished.path)], None).path == finished.path
    assert named([str(tmp_path / "images")], None) is None
    assert named(["tiny"], "tiny") is None
    assert named(["*.jpg"], None) is None
    with pytest.raises(UserError, match="neither"):
        named(["nothing_there"], None)
