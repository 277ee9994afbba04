import os
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks.drills import damaged_inputs
from benchmarks.drills.damaged_tables import TABLES, read_for_prediction, read_for_training
from benchmarks.drills.image_kinds import KINDS
from benchmarks.drills.unusual_images import NAMES, PLACES
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.predictor import ensemble_predict
from kderm.explain.of_images import overlay_names


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize((120, 90), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_gives_pixels_or_a_reason(name, seed, picture):
    expected, _, maker = KINDS[name]
    content = maker(np.random.default_rng(seed), picture)
    reason = ""
    try:
        found = "answer" if read_image(content, ImageSpec(37, 37)).shape == (37, 37, 3) else "?"
    except UnreadableImage as error:
        found, reason = "error", error.reason
    assert len(reason) <= 200
    assert found in (("answer", "error") if expected == "either" else (expected,))


def test_no_damaged_file_changes_the_answer_of_a_good_one(good_run, tmp_path, monkeypatch, picture):
    monkeypatch.setattr(damaged_inputs, "GOOD", 12)
    monkeypatch.chdir(tmp_path)
    heavy = ("a real png of 20000 pixels", "a text in a png that unfolds")
    few = {name: row for name, row in KINDS.items() if name not in heavy}
    monkeypatch.setattr(damaged_inputs, "KINDS", few)
    count = len(few) + len(PLACES)
    made = damaged_inputs.make(tmp_path / "all", count, [picture, picture.rotate(90)])
    if os.geteuid() == 0:  # root may read everything
        for name, (kind, _) in list(made.damaged.items()):
            if kind == "no right to read":
                made.damaged[name] = kind, "either"
    bundle = read_bundle(good_run.path)
    for out, names in (("alone", made.good), ("together", [*made.good, *made.damaged])):
        damaged_inputs.write_table(tmp_path / f"{out}.csv", "all", sorted(names))
        inputs = find_inputs([f"{out}.csv"], bundle.labels)
        ensemble_predict(bundle, inputs, tmp_path / out, batch_size=8)
    tables = (tmp_path / out / "predictions.csv" for out in ("alone", "together"))
    assert len(made.damaged) == count + len(NAMES)
    assert damaged_inputs.check_predictions(made, *tables) == []


def test_the_drill_notices_a_neighbour_that_changed_and_a_row_that_is_missing(tmp_path):
    made = damaged_inputs.Made(
        ["a.jpg"], {"b.jpg": ("noise", "error"), "c.jpg": ("grey", "answer")}
    )
    header = "image_id,p_nv,error\n"
    a, b = map(damaged_inputs.image_id, ("a.jpg", "b.jpg"))
    (tmp_path / "alone.csv").write_text(f"{header}{a},0.5,\n")
    (tmp_path / "all.csv").write_text(f"{header}{a},0.6,\n{b},0.1,\n")
    wrong = damaged_inputs.check_predictions(made, tmp_path / "alone.csv", tmp_path / "all.csv")
    assert [line.split(":")[0] for line in wrong] == ["c.jpg", "a.jpg", "b.jpg (noise)"]


@pytest.fixture(scope="module")
def demo(good, tmp_path_factory):
    root = tmp_path_factory.mktemp("tables") / "demo"
    shutil.copytree(good / "runs" / "_data" / "demo-105x40-seed42", root)
    return root, (root / "HAM10000_metadata.csv").read_text()


@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_read_or_refused_in_a_sentence(name, demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, text = demo
    table = root / "HAM10000_metadata.csv"
    table.write_bytes(TABLES[name](np.random.default_rng(1), text))
    for found in (read_for_prediction(table), read_for_training(root)):
        assert found.startswith(("answered", "refused: ")), found


def test_the_good_table_of_the_drill_is_answered(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, text = demo
    table = root / "HAM10000_metadata.csv"
    table.write_text(text)
    assert (read_for_prediction(table), read_for_training(root)) == ("answered", "answered")


def test_a_name_of_any_letters_fits_on_a_disk():
    names = overlay_names(["影" * 200, "ü" * 200, "x" * 200, "影" * 199 + "皮"])
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 255 for name in names)
