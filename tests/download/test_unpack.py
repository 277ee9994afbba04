"""Zip archives: whole or absent, and never a file outside of the folder."""

import shutil
import stat
import zipfile
from collections import namedtuple

import pytest

from kderm.download import DownloadError
from kderm.errors import UserError
from kderm.unpack import unpack


@pytest.fixture
def archive(tmp_path, zipped):
    def make(files):
        path = tmp_path / "images.zip"
        path.write_bytes(zipped(files))
        return path

    return make


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_flat_archive_becomes_a_folder(archive, tmp_path):
    seen = []
    path = archive({"a.jpg": b"aa", "deep/b.jpg": b"bbb"})
    unpack(path, tmp_path / "images", lambda *done: seen.append(done))
    assert below(tmp_path / "images") == ["a.jpg", "deep/b.jpg"]
    assert (tmp_path / "images/deep/b.jpg").read_bytes() == b"bbb"
    assert seen == [(2, 5), (5, 5)]
    assert path.exists()


def test_the_only_folder_of_an_archive_becomes_the_folder(archive, tmp_path):
    names = ["ISIC_Input/a.jpg", "ISIC_Input/b.jpg", "__MACOSX/ISIC_Input/._a.jpg"]
    unpack(archive(dict.fromkeys(names, b"x")), tmp_path / "train")
    assert below(tmp_path / "train") == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "deep/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"]
)
def test_a_path_that_leads_out_is_refused_and_nothing_is_unpacked(name, archive, tmp_path):
    path = archive({"a.jpg": b"x", name: b"x"})
    with pytest.raises(UserError, match=r"a path that leads out.*Nothing was unpacked"):
        unpack(path, tmp_path / "into" / "images")
    assert below(tmp_path) == ["images.zip"]


def test_a_link_is_refused(archive, tmp_path):
    path = archive({"a.jpg": b"x"})
    link = zipfile.ZipInfo("out")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="'out' is a link"):
        unpack(path, tmp_path / "images")


def test_a_file_damaged_inside_the_archive_leaves_nothing(archive, tmp_path):
    path = archive({"a.jpg": b"A" * 100, "b.jpg": b"B" * 100})
    path.write_bytes(path.read_bytes().replace(b"B" * 100, b"B" * 99 + b"C"))
    with pytest.raises(UserError, match=r"Expected a whole zip archive.*CRC"):
        unpack(path, tmp_path / "images")
    assert below(tmp_path) == ["images.zip"]


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"Expected a whole zip archive.*not a zip"):
        unpack(tmp_path / "images.zip", tmp_path / "images")


def test_what_a_killed_process_left_is_cleared_away(archive, tmp_path, killed_temporary):
    left = killed_temporary(tmp_path / "images")
    left.mkdir()
    (left / "half.jpg").write_bytes(b"x")
    unpack(archive({"a.jpg": b"x"}), tmp_path / "images")
    assert not left.exists()
    assert below(tmp_path / "images") == ["a.jpg"]


def test_a_disk_without_room_is_refused_before_anything_is_written(archive, tmp_path, monkeypatch):
    path = archive({"a.jpg": b"x" * 2000})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1999))
    with pytest.raises(DownloadError, match=r"needs 2\.0 kB of disk space"):
        unpack(path, tmp_path / "images")
    assert below(tmp_path) == ["images.zip"]
