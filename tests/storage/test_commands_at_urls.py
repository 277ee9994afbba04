"""Verbs that write into a finished run at a URL: what they wrote is there for the next machine."""

import shutil

import fsspec
import pytest
from click.testing import CliRunner

from kderm.cli import main

URL = "memory://box/runs"


def command(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def objects(tmp_path_factory, tiny_overrides):
    """What a run that was trained at the URL left there."""
    store = fsspec.filesystem("memory").store
    store.clear()
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("first_machine")
        patch.chdir(place)
        patch.setenv("KDERM_RUNS", URL)
        patch.setenv("KDERM_CACHE", str(place / "cache"))
        command("cv", "--run", "tiny", *tiny_overrides, "train.epochs=1", "train.frozen_epochs=0")
        demo = next(place.rglob("_data"))
        yield dict(store), demo
    store.clear()


@pytest.fixture
def machine(objects, tmp_path, monkeypatch):
    """A machine that has seen nothing of the run but its images."""
    trained, demo = objects
    store = fsspec.filesystem("memory").store
    store.clear()
    store.update(trained)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDERM_RUNS", URL)
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "cache"))
    from kderm.run_dir import runs_root

    shutil.copytree(demo, runs_root() / "_data")
    return store


def new_files(store, trained):
    return {name.removeprefix("/box/runs/tiny/") for name in store if name not in trained}


def test_an_export_is_kept_at_the_url_and_found_there(machine, objects, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    told = command("export", "tiny")
    assert f"Kept at: {URL}/tiny/engines/onnx_float32" in told
    names = ["engine.json", *(f"fold_{fold}.onnx" for fold in range(3))]
    assert new_files(machine, objects[0]) == {f"engines/onnx_float32/{name}" for name in names}
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "third machine"))
    monkeypatch.setattr("kderm.ensemble.engines.exports.export", None)  # it needs none
    picture = next((tmp_path / "cache").rglob("_data/*/*/*.jpg"))
    shutil.copy(picture, tmp_path / "photo.jpg")
    told = command("ensemble-predict", "photo.jpg", "--run", "tiny", "--engine", "onnx")
    assert "1 of 1 image predicted" in told


@pytest.mark.parametrize("members", ["soup", "0,2"])
def test_a_smaller_bundle_is_kept_at_the_url_and_predicts_there(
    machine, objects, tmp_path, monkeypatch, members
):
    name = "soup" if members == "soup" else "folds_0_2"
    told = command("shrink", "tiny", "--members", members)
    assert f"Kept at: {URL}/tiny/smaller/{name}" in told
    written = new_files(machine, objects[0])
    assert f"smaller/{name}/ensemble.json" in written
    assert all(each.startswith(f"smaller/{name}/") for each in written)
    shutil.copy(next((tmp_path / "cache").rglob("_data/*/*/*.jpg")), tmp_path / "photo.jpg")
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "third machine"))
    smaller = f"{URL}/tiny/smaller/{name}"
    told = command("ensemble-predict", "photo.jpg", "--run", smaller, "--out", "out")
    assert "1 of 1 image predicted" in told


@pytest.mark.parametrize("run", ["tiny", f"{URL}/tiny"])
def test_explanations_of_a_run_are_kept_at_the_url(machine, objects, run):
    told = command("explain", run, "--each", "1")
    assert f"Kept at: {URL}/tiny/explanations" in told
    written = new_files(machine, objects[0])
    assert "explanations/maps.csv" in written
    assert all(each.startswith("explanations/") for each in written)


def test_images_at_a_url_are_no_run(machine, objects, tmp_path):
    picture = next((tmp_path / "cache").rglob("_data/*/*/*.jpg"))
    for name in ("box/photos/a.jpg", "box/photos/b.jpg"):
        fsspec.filesystem("memory").pipe_file(f"/{name}", picture.read_bytes())
    for source, count in (("memory://box/photos", 2), ("memory://box/photos/a.jpg", 1)):
        told = command("explain", source, "--run", "tiny", "--out", f"out_{count}")
        assert f"{count} of {count} image{'s' * (count > 1)} predicted" in told
    told = command("explain", "memory://box/photos", "--out", "newest")
    assert "2 of 2 images predicted" in told


def test_a_folder_at_the_url_that_is_no_run_is_not_brought(machine, tmp_path):
    shutil.copy(next((tmp_path / "cache").rglob("_data/*/*/*.jpg")), tmp_path / "photo.jpg")
    (tmp_path / "photos").mkdir()
    shutil.copy("photo.jpg", "photos/own.jpg")
    fsspec.filesystem("memory").pipe_file("/box/runs/photos/other.jpg", b"somebody's")
    told = command("explain", "photos", "--run", "tiny", "--out", "out")
    assert "1 of 1 image predicted" in told
    command("explain", "photos", "--out", "newest")
    assert not list((tmp_path / "cache").rglob("other.jpg"))


def test_what_is_finished_at_the_url_is_not_called_unfinished(machine):
    from kderm.run_dir import runs_root

    begun_here = runs_root() / "tiny"
    begun_here.mkdir()
    (begun_here / "config.yaml").write_text("{}")
    for words, told in (
        (["export", "tinny"], "Did you mean 'tiny'?"),
        (["explain", "nosuch"], "that are finished: tiny."),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        said = " ".join(result.output.split())
        assert told in said
        assert "Not finished" not in said
