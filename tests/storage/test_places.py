"""Files under names in folders and in whatever fsspec reaches."""

import fsspec
import pytest

from kderm.errors import UserError
from kderm.storage.places import open_place


def test_a_place_keeps_lists_finds_and_removes_files(place, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    place.write("a/fold_0/done.json", b"{}")
    place.upload(source, "a/fold_0/model.keras")
    place.write("b/config.yaml", b"seed: 1")
    assert [kept.name for kept in place.files("a")] == [
        "a/fold_0/done.json",
        "a/fold_0/model.keras",
    ]
    assert [kept.size for kept in place.files("a")] == [2, 7]
    assert place.read("b/config.yaml") == b"seed: 1"
    place.download("a/fold_0/model.keras", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == b"weights"
    assert [kept.name for kept in place.matching("*/config.yaml")] == ["b/config.yaml"]
    before = place.find("b/config.yaml").version
    place.write("b/config.yaml", b"seed: 2")
    assert place.find("b/config.yaml").version != before
    place.remove("a")
    place.remove("never/there")
    assert [kept.name for kept in place.files()] == ["b/config.yaml"]
    assert place.find("a/fold_0/done.json") is None
    with pytest.raises(FileNotFoundError):
        place.download("a/fold_0/model.keras", tmp_path / "other" / "copy")
    assert not (tmp_path / "other").exists()


def test_a_place_s_address_leads_to_the_same_place_whatever_its_name(tmp_path):
    place = open_place(tmp_path / "my runs ü 100%20#")
    place.write("a/config.yaml", b"seed: 1")
    assert open_place(place.url).read("a/config.yaml") == b"seed: 1"


def test_a_store_whose_package_is_missing_is_told_by_name(monkeypatch):
    def without(url, **_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with pytest.raises(UserError, match="pip install s3fs"):
        open_place("s3://box/runs")


def test_an_address_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match=r"Expected a path, or a URL such as s3://"):
        open_place("nosuch://box/runs")


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(UserError, match=r"\[cluster\]"):
        open_place("memory://box/runs")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    def stale(folder):
        raise OSError(116, "Stale file handle")

    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("os.scandir", stale)
    with pytest.raises(UserError, match="Stale file handle"):
        open_place(tmp_path / "runs").files()


@pytest.mark.parametrize("call", ["files", "matching", "find", "read", "download", "remove"])
def test_an_error_of_an_object_store_is_told_in_words(bucket, tmp_path, monkeypatch, call):
    class NoCredentialsError(Exception):
        pass

    def refused(*_, **__):
        raise NoCredentialsError("Unable to locate credentials")

    for method in ("find", "glob", "info", "cat_file"):
        monkeypatch.setattr(bucket, method, refused)
    given = {"files": [], "download": ["a", tmp_path / "a"]}.get(call, ["a"])
    with pytest.raises(UserError, match=r"bucket://box/runs.*Unable to locate credentials"):
        getattr(open_place("bucket://box/runs"), call)(*given)
