import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm import run_dir
from kderm.atomic import write_csv, write_json
from kderm.data.store import build_store, store_digest
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.external import evaluate_external
from kderm.errors import UserError


def draw(path, seed, turn=None):
    """A picture with structure at every scale, so that it can be recognised."""
    rng = np.random.default_rng(seed)
    total = np.zeros((48, 64))
    for cells in (3, 8, 20):
        coarse = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
        total += 35 * np.asarray(coarse.resize((64, 48), Image.Resampling.BICUBIC))
    grey = np.clip(total + 128, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if turn is None else image.transpose(turn)).save(path)
    return path


@pytest.fixture
def known_run(run, tmp_path, monkeypatch):
    """The finished run, with the manifest and the decoded images of four pictures."""
    monkeypatch.setenv("KDERM_RUNS", str(tmp_path))
    ids = ["ISIC_0000001", "ISIC_0000002", "ISIC_0000003", "own_4"]
    paths = [draw(tmp_path / "training" / f"{name}.png", n) for n, name in enumerate(ids)]
    table = pd.DataFrame({"image_id": ids, "path": map(str, paths), "label": "nv"})
    write_csv(run.manifest, table)
    spec = read_bundle(run.path).spec
    digest = store_digest(ids, paths, spec)
    build_store(run_dir.store_dir(digest), ids, paths, spec)
    write_json(run.store, {"digest": digest})
    return run


@pytest.fixture
def elsewhere(tmp_path):
    """Eight images in class folders; three of them are in the run's data too."""
    root = tmp_path / "clinic"
    draw(root / "nv" / "ISIC_0000001_downsampled.png", 100)  # by its id
    draw(root / "mel" / "file.png", 1)  # the same bytes
    draw(root / "nv" / "mirrored.png", 2, Image.Transpose.FLIP_LEFT_RIGHT)
    for number in range(5):
        draw(root / ("nv", "mel")[number % 2] / f"new_{number}.png", 50 + number)
    return root


def predicted(run):
    table = pd.read_csv(run.external / "clinic" / "predictions.csv", keep_default_na=False)
    return set(table["image_id"])


NEW = {f"new_{number}" for number in range(5)}


def test_images_of_the_run_are_found_by_id_file_and_picture_and_left_out(known_run, elsewhere):
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert table["by"].to_dict() == {
        "ISIC_0000001_downsampled": "id",
        "file": "digest",
        "mirrored": "picture",
    }
    assert table["training_image_id"].to_dict() == {
        "ISIC_0000001_downsampled": "ISIC_0000001",
        "file": "ISIC_0000002",
        "mirrored": "ISIC_0000003",
    }
    assert predicted(known_run) == NEW
    assert "3 of 8 image(s): 1 by id, 1 by file, 1 by picture; left out" in text
    assert "on 5 labelled image(s)" in text


def test_a_label_that_differs_from_the_runs_is_told(known_run, elsewhere):
    text = evaluate_external(known_run, [str(elsewhere)])
    assert (
        "1 of them have another label here than in the run, for example file (mel, there nv)"
        in text
    )


def test_the_report_says_what_was_left_out(known_run, elsewhere):
    evaluate_external(known_run, [str(elsewhere)])
    report = (known_run.external / "clinic" / "report.md").read_text()
    assert "## Overlap with the run's own images" in report
    assert "3 of 8 image(s)" in report


def test_overlapping_images_can_be_kept_but_it_is_said(known_run, elsewhere):
    text = evaluate_external(known_run, [str(elsewhere)], overlap="keep")
    assert len(predicted(known_run)) == 8
    assert "KEPT, so this is no test of unseen images" in text
    assert len(pd.read_csv(known_run.external / "clinic" / "overlap.csv")) == 3


def test_without_the_store_ids_alone_are_compared_and_it_is_said(known_run, elsewhere):
    shutil.rmtree(run_dir.runs_root() / "_stores")
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv")
    assert table["by"].tolist() == ["id"]
    assert "by id alone" in text
    assert "WARNING: the run's decoded images are gone" in text


def test_without_the_training_files_pictures_are_compared(known_run, elsewhere, tmp_path):
    shutil.rmtree(tmp_path / "training")
    text = evaluate_external(known_run, [str(elsewhere)])
    table = pd.read_csv(known_run.external / "clinic" / "overlap.csv").set_index("image_id")
    assert table["by"].to_dict() == {
        "ISIC_0000001_downsampled": "id",
        "file": "picture",
        "mirrored": "picture",
    }
    assert "4 of the run's image files are gone" in text


def test_a_run_that_knows_no_image_any_more_says_so(run, elsewhere):
    run.oof.unlink()
    text = evaluate_external(run, [str(elsewhere)])
    assert "nothing is left of the run's images" in text
    assert len(predicted(run)) == 8


def test_an_id_in_a_table_is_compared_though_the_file_has_another_name(known_run, tmp_path):
    folder = tmp_path / "clinic"
    for number in range(4):
        draw(folder / f"scan{number}.png", 70 + number)
    rows = {
        "image_id": ["ISIC_0000002", "x1", "x2", "x3"],
        "path": [f"scan{number}.png" for number in range(4)],
        "label": ["nv", "mel", "nv", "mel"],
    }
    pd.DataFrame(rows).to_csv(folder / "clinic.csv", index=False)
    evaluate_external(known_run, [str(folder / "clinic.csv")])
    assert predicted(known_run) == {"x1", "x2", "x3"}


def test_unlabelled_images_are_refused(known_run, tmp_path):
    draw(tmp_path / "plain" / "a.png", 60)
    with pytest.raises(UserError, match="Expected images with labels"):
        evaluate_external(known_run, [str(tmp_path / "plain")])
    assert not known_run.external.exists()


def test_a_collection_that_the_run_has_as_a_whole_is_refused(known_run, tmp_path):
    draw(tmp_path / "same" / "nv" / "a.png", 0)
    draw(tmp_path / "same" / "nv" / "b.png", 1)
    with pytest.raises(UserError, match="nothing is left to score"):
        evaluate_external(known_run, [str(tmp_path / "same")])


def test_results_of_another_folder_of_the_same_name_are_not_replaced(
    known_run, elsewhere, tmp_path
):
    evaluate_external(known_run, [str(elsewhere)])
    draw(tmp_path / "b" / "clinic" / "nv" / "a.png", 80)
    with pytest.raises(UserError, match="results of other images"):
        evaluate_external(known_run, [str(tmp_path / "b" / "clinic")])
    out = tmp_path / "b" / "out"
    evaluate_external(known_run, [str(tmp_path / "b" / "clinic")], out=out)
    assert (out / "overlap.csv").is_file()
    assert predicted(known_run) == NEW


def test_the_answers_are_those_of_ensemble_predict(known_run, elsewhere, predict, tmp_path):
    evaluate_external(known_run, [str(elsewhere)])
    mine = pd.read_csv(known_run.external / "clinic" / "predictions.csv").set_index("image_id")
    _, theirs = predict(known_run, [elsewhere], tmp_path / "plain", batch_size=32)
    columns = read_bundle(known_run.path).labels.columns
    theirs = theirs.loc[mine.index, columns].astype(float)
    np.testing.assert_allclose(mine[columns], theirs, atol=2e-6)
