"""What `fit` writes of its images, and what it says of them, before anything is trained."""

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import kderm
from kderm.api import fitting
from kderm.api.runs import exclusive_run
from kderm.data.images import ImageSpec, read_image
from kderm.run_dir import RunDir

SMALL = {"model.preset": "kderm/small_cnn", "model.weights": "none"}


def pillow_images():
    """Pictures that look otherwise when a program turns them into RGB carelessly."""
    ramp = np.arange(12 * 8, dtype=np.uint32).reshape(12, 8)
    colours = np.stack([ramp * 2, ramp, 255 - ramp, (ramp * 7) % 256], axis=2).astype(np.uint8)
    grey = Image.fromarray((ramp * 600).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = io.BytesIO()
    Image.fromarray(colours[..., :3]).save(lying, "PNG", exif=exif)
    noted = Image.fromarray(colours[..., :3])
    noted.getexif()[0x0112] = 6
    palette = Image.fromarray(colours[..., :3]).quantize(16)
    palette.info["transparency"] = 3
    return {
        "16-bit grey": grey,
        "32-bit integers": grey.convert("I"),
        "alpha": Image.fromarray(colours),
        "grey with alpha": Image.fromarray(colours).convert("LA"),
        "multiplied alpha": Image.fromarray(colours).convert("RGBa"),
        "palette": palette,
        "four inks": Image.fromarray(colours[..., :3]).convert("CMYK"),
        "two colours": Image.fromarray(colours[..., :3]).convert("1"),
        "lying": Image.open(lying),
        "lying in its notes alone": noted,
    }


@pytest.mark.parametrize("kind", pillow_images())
def test_a_pillow_image_is_trained_on_with_the_pixels_that_predict_sees(kind, tmp_path):
    image = pillow_images()[kind]
    spec = ImageSpec(6, 6)
    path = fitting._as_file(image, tmp_path, 0)
    np.testing.assert_array_equal(read_image(path, spec), read_image(image, spec))
    assert read_image(path, spec).std() > 0
    assert fitting._fingerprint(image, 0) == fitting._fingerprint(pillow_images()[kind], 0)


def test_pictures_that_differ_in_their_palette_alone_are_other_pictures():
    one = Image.new("P", (4, 4), 1)
    other = one.copy()
    one.putpalette([0, 0, 0, 255, 0, 0])
    other.putpalette([0, 0, 0, 0, 0, 255])
    assert fitting._fingerprint(one, 0) != fitting._fingerprint(other, 0)


def test_a_pillow_image_that_predict_could_not_read_is_refused_by_fit(tmp_path):
    with pytest.raises(kderm.UserError, match="number 5: floating-point pixels"):
        fitting._as_file(Image.new("F", (4, 4), 0.5), tmp_path, 5)


def untrained(monkeypatch):
    """Let `fit` end where training would begin; the data set and the folds it came to."""
    found = {}

    def stop(data, config, folds, place, **how):
        found.update(data=data, folds=folds)
        raise InterruptedError

    monkeypatch.setattr(fitting, "train_held", stop)
    return found


def fit(groups, count=8):
    images = np.random.default_rng(0).integers(0, 255, (count, 8, 8, 3)).astype(np.uint8)
    estimator = kderm.SkinLesionClassifier(folds=2, preset="kderm/small_cnn", weights="none")
    with pytest.raises(InterruptedError):
        estimator.fit(images, ["mel", "nv"] * (count // 2), groups)


def test_a_fit_without_groups_warns_of_leakage_and_invents_no_lesions(monkeypatch, capsys):
    found = untrained(monkeypatch)
    fit(None)
    assert capsys.readouterr().err.count("warning: No groups are given") == 1
    assert found["data"].table["lesion_id"].isna().all()
    assert found["folds"].table["group_id"].nunique() == 8


def test_images_without_a_group_are_alone_beside_those_with_one(monkeypatch, capsys):
    found = untrained(monkeypatch)
    fit(["a", "b", "a", "b", None, np.nan, "c", "d"])
    assert "warning" not in capsys.readouterr().err
    assert found["data"].table["lesion_id"].isna().sum() == 2
    assert found["folds"].table["group_id"].nunique() == 6


def test_groups_with_two_labels_are_patients_and_stay_in_one_fold(monkeypatch):
    found = untrained(monkeypatch)
    fit(["p", "p", "q", "q", "r", "r", "s", "s"])
    table = found["data"].table
    assert table["lesion_id"].isna().all()
    assert table["patient_id"].nunique() == 4
    assert found["folds"].table.groupby("group_id")["fold"].nunique().max() == 1
    assert found["folds"].table["group_id"].nunique() == 4


def test_every_mistake_in_fit_is_a_value_error_too():
    estimator = kderm.SkinLesionClassifier(folds=2, preset="no/such_preset")
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="no/such_preset") as caught:
        estimator.fit(images, ["mel", "nv"] * 2)
    assert isinstance(caught.value, kderm.UserError)


def table_of_files(folder, **columns):
    """A data set of eight pictures, and a row without a file."""
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(folder / f"i{number}.png")
    ids = [f"i{number}" for number in range(9)]
    table = pd.DataFrame({"image_id": ids, "label": (["mel", "nv"] * 5)[:9]} | columns)
    table.to_csv(folder / "table.csv", index=False)
    classes = {"data.classes": ["mel", "nv"], "data.malignant": ["mel"], "image.size": 32}
    return kderm.load_dataset("table", folder, table="table.csv", labels="custom", settings=classes)


def test_images_that_are_left_out_are_told_once(tmp_path, capsys):
    data = table_of_files(tmp_path, lesion_id=list("ababcdcdc"))
    assert capsys.readouterr().err.count("warning: 1 images dropped: ") == 1
    kderm.make_folds(data, 2)
    assert capsys.readouterr().err == ""


def test_folds_without_lesions_are_told_to_leak_perhaps(tmp_path, capsys):
    data = table_of_files(tmp_path)
    capsys.readouterr()
    kderm.make_folds(data, 2)
    assert capsys.readouterr().err.count("leakage cannot be ruled out") == 1


@pytest.mark.parametrize("folds", [2, "made"])
def test_cross_validate_says_of_leakage_what_make_folds_has_not_said(
    folds, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    data = table_of_files(tmp_path)
    made = kderm.make_folds(data, 2) if folds == "made" else folds
    capsys.readouterr()
    monkeypatch.setattr("kderm.training.crossval.train_all", lambda *given: None)
    with pytest.raises(kderm.UserError):  # nothing was trained
        kderm.cross_validate(data, made, run="mine", settings=SMALL, quiet=True)
    told = capsys.readouterr().err
    assert told.count("leakage cannot be ruled out") == (folds == 2)
    assert "images dropped" not in told


def test_a_second_fit_of_a_run_leaves_the_first_ones_pictures_alone(tmp_path):
    place = RunDir(tmp_path / "mine")
    (place.path / "images").mkdir(parents=True)
    (place.path / "images" / "0000000.png").write_bytes(b"the first fit's")
    images = np.zeros((8, 8, 8, 3), np.uint8)
    with (
        exclusive_run(place),
        pytest.raises(kderm.UserError, match="Another process is writing the run 'mine'"),
    ):
        kderm.SkinLesionClassifier(folds=2, run=str(place.path)).fit(images, ["mel", "nv"] * 4)
    assert (place.path / "images" / "0000000.png").read_bytes() == b"the first fit's"
    assert not (place.path / "fit.json").exists()


KILLED = """
import os, signal, numpy as np
import kderm
from kderm.api import fitting
fitting.train_held = lambda *given, **how: os.kill(os.getpid(), signal.SIGKILL)
images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3)).astype(np.uint8)
estimator = kderm.SkinLesionClassifier(folds=2, preset="kderm/small_cnn", weights="none")
estimator.fit(images, ["mel", "nv"] * 4)
"""


def test_the_pictures_of_a_killed_fit_go_with_the_next_fit(tmp_path, monkeypatch):
    line = [sys.executable, "-c", KILLED]
    done = subprocess.run(line, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.rglob("*.png"))) == 8
    (left,) = tmp_path.iterdir()
    assert left.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    untrained(monkeypatch)
    fit(None)
    assert list(tmp_path.iterdir()) == []
