from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.atomic import write_json
from kderm.data.images import ImageSpec
from kderm.data.manifest import read_manifest
from kderm.data.store import build_store, store_digest
from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.explain.examples import choose_examples, read_frames, read_pictures
from kderm.labels import HAM10000
from kderm.run_dir import store_dir

SPEC = ImageSpec(36, 48)


def oof(rows):
    """Predictions from (label, {code: probability}); what is left goes to vasc."""
    table = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(len(rows))], "label": [row[0] for row in rows]}
    )
    table["group_id"], table["fold"] = table["image_id"], np.arange(len(rows)) % 4
    for code, column in zip(HAM10000.codes, HAM10000.columns, strict=True):
        table[column] = [row[1].get(code, 0.0) for row in rows]
    table["p_vasc"] += 1 - table[HAM10000.columns].sum(axis=1)
    return make_predictions(table, HAM10000)


def test_the_surest_right_answer_of_a_class_is_shown():
    found = choose_examples(
        oof([("mel", {"mel": 0.6}), ("mel", {"mel": 0.9}), ("nv", {"mel": 0.99})])
    )
    mel = found.set_index("class").loc["mel"]
    assert (mel["image_id"], mel["fold"], mel["predicted"], mel["right"]) == ("i1", 1, "mel", True)
    assert mel["probability"] == pytest.approx(0.9)


def test_a_right_answer_comes_before_a_likelier_wrong_one():
    found = choose_examples(
        oof([("df", {"df": 0.45, "nv": 0.5}), ("df", {"df": 0.3, "nv": 0.2, "bcc": 0.25})])
    )
    assert found["image_id"].tolist() == ["i1"]


def test_where_none_is_right_the_likeliest_image_of_the_class_is_shown():
    found = choose_examples(oof([("df", {"df": 0.1, "nv": 0.8}), ("df", {"df": 0.4, "nv": 0.5})]))
    row = found.iloc[0]
    assert (row["image_id"], row["label"], row["predicted"], row["right"]) == (
        *("i1", "df", "nv"),
        False,
    )
    assert row["probability"] == pytest.approx(0.4)


def test_classes_without_images_have_no_row_and_the_others_keep_the_order():
    found = choose_examples(oof([("nv", {"nv": 1.0}), ("bcc", {"bcc": 1.0})]))
    assert found["class"].tolist() == ["bcc", "nv"]


def test_of_equally_sure_answers_the_first_is_shown():
    found = choose_examples(oof([("nv", {"nv": 0.8}), ("nv", {"nv": 0.8})]))
    assert found["image_id"].tolist() == ["i0"]


@pytest.fixture
def manifest(run):
    return read_manifest(run.manifest, HAM10000)


@pytest.fixture
def store(run, manifest, monkeypatch):
    """The run's store, built as `prepare` does."""
    monkeypatch.setenv("KDERM_RUNS", str(run.path.parent))
    ids, paths = manifest.table["image_id"].tolist(), manifest.table["path"].tolist()
    digest = store_digest(ids, paths, SPEC)
    write_json(run.store, {"digest": digest})
    return build_store(store_dir(digest), ids, paths, SPEC)[0]


def remove_images(manifest):
    for path in manifest.table["path"]:
        Path(path).unlink()


def test_frames_come_from_the_store_in_the_order_asked_for(run, manifest, store):
    remove_images(manifest)
    found = read_frames(run, manifest, ["img_07", "img_02"], SPEC)
    assert np.array_equal(found, store.images[[7, 2]])


def test_without_a_store_the_files_give_the_same_frames(run, manifest, store):
    stored = read_frames(run, manifest, ["img_07", "img_02"], SPEC)
    run.store.unlink()
    assert np.array_equal(read_frames(run, manifest, ["img_07", "img_02"], SPEC), stored)


def test_the_store_of_a_run_that_was_moved_with_its_stores_is_found(
    run, manifest, store, monkeypatch, tmp_path
):
    stored = read_frames(run, manifest, ["img_02"], SPEC)
    remove_images(manifest)
    monkeypatch.setenv("KDERM_RUNS", str(tmp_path / "elsewhere"))
    assert np.array_equal(read_frames(run, manifest, ["img_02"], SPEC), stored)


def test_a_store_of_other_frames_is_not_used(run, manifest, store):
    larger = ImageSpec(72, 96)
    assert read_frames(run, manifest, ["img_07"], larger).shape == (1, 72, 96, 3)


def test_without_store_and_file_the_file_is_named(run, manifest):
    remove_images(manifest)
    with pytest.raises(
        UserError,
        match=r"img_03\.png cannot be read.*does not exist.*prepare --config .*config.yaml",
    ):
        read_frames(run, manifest, ["img_03"], SPEC)


def test_an_image_that_the_manifest_lacks_is_named(run, manifest):
    with pytest.raises(UserError, match="stranger"):
        read_frames(run, manifest, ["img_03", "stranger"], SPEC)


def test_pictures_show_the_plain_view_larger_than_the_frame(run, manifest):
    frames = read_frames(run, manifest, ["img_03"], SPEC)
    (picture,) = read_pictures(manifest, ["img_03"], SPEC, frames, side=90)
    assert picture.shape == (90, 90, 3)
    small = Image.fromarray(picture).resize((36, 36), Image.Resampling.BOX)
    difference = np.asarray(small, float) - frames[0][:, 6:42]  # the frame's centre square
    assert np.abs(difference).mean() < 4


def test_where_a_file_is_gone_the_picture_is_the_frame(run, manifest):
    frames = read_frames(run, manifest, ["img_03", "img_04"], SPEC)
    Path(manifest.table["path"][3]).unlink()
    small, large = read_pictures(manifest, ["img_03", "img_04"], SPEC, frames, side=90)
    assert np.array_equal(small, frames[0][:, 6:42])
    assert large.shape == (90, 90, 3)
