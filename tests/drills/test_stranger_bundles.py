import io
import shutil
import zipfile

import numpy as np
import pytest

from benchmarks.drills import hostile, hostile_files, stranger_bundles
from benchmarks.drills.hostile import ATTACKS
from kderm.ensemble.bounded import load_arrays, read_bounded


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A busy machine fails no test; the drill keeps the time."""
    monkeypatch.setattr(stranger_bundles, "SECONDS", 900)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_bundle_is_refused_in_a_sentence(name, good, good_run, tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "BOMB", 80 * 2**20)
    met = stranger_bundles.meet(name, good_run.path, good / "three", tmp_path / "scratch")
    # What a small bomb unfolds to is harmless where the limit lies above it.
    assert met.kind in ("refused", "answered" if name == "unlike that unfolds" else ""), met.told
    assert "Traceback" not in met.told


def test_the_good_bundle_of_the_drill_answers(good, good_run, tmp_path):
    kind, told = stranger_bundles._predict(good_run.path, good / "three", tmp_path / "out")
    assert kind == "answered", told


def npz(**parts):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return held.getvalue()


def test_arrays_come_back_as_they_were_saved(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text"), "c": np.array([1, 2], "u1")}
    np.savez(tmp_path / "a.npz", **arrays)
    loaded = load_arrays((tmp_path / "a.npz").read_bytes())
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("content", "limit", "told"),
    [
        (hostile.npy((2**40,)), 2**20, "not in the file"),
        (hostile.npy((2,), b"\0" * 16), 2**20, "not in the file"),
        (hostile.npy((1,), b"\0" * 8, "|O"), 2**20, "objects"),
        (hostile.npy((2**18,), b"\0" * 2**20), 2**20, "where 1,048,576 are the most"),
        (b"\x93NUMPY\x09\x00", 2**20, "format"),
        (b"noise that is no array", 2**20, "magic"),
    ],
)
def test_arrays_that_are_not_what_they_say_are_refused(content, limit, told):
    with pytest.raises(ValueError, match=told):
        load_arrays(npz(a=content), limit)


def test_a_file_above_its_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="5 bytes, where 4 are the most"):
        read_bounded(tmp_path / "a", 4)


def test_a_device_is_not_read():
    with pytest.raises(OSError, match="not a regular file"):
        read_bounded(hostile_files.Path("/dev/zero"), 100)


def test_markup_in_a_bundle_is_text_in_its_report(good, good_run, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(good_run.path, folder)
    markup = "<script>alert(1)</script>"
    hostile.change(folder, lambda values: values.update(run=markup))
    hostile.change(folder, lambda values: values["labels"].update(name="x", names=[markup] * 7))
    labelled = good / "runs/_data/demo-unseen-40-seed43/HAM10000_metadata.csv"
    kind, told = stranger_bundles._predict(folder, labelled, tmp_path / "out")
    assert kind == "answered", told
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert markup not in page
