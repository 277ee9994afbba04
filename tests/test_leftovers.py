import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kderm import leftovers
from kderm.atomic import write_text
from kderm.leftovers import is_left, own_temporary_files, sweep, temporary_beside


@pytest.fixture(autouse=True)
def nothing_swept(monkeypatch):
    monkeypatch.setattr(leftovers, "_swept", set())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_takes_what_killed_processes_left_in_its_folder_with_it(tmp_path, killed_temporary):
    for name in ("oof.csv", "another.npz", "no_suffix"):
        killed_temporary(tmp_path / name).write_bytes(b"half")
    folder = killed_temporary(tmp_path / "images")
    (folder / "part").mkdir(parents=True)
    write_text(tmp_path / "oof.csv", "whole")
    assert names(tmp_path) == ["oof.csv"]


def test_what_another_process_is_writing_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers.os, "getpid", os.getppid)
    with temporary_beside(tmp_path / "oof.csv") as theirs:
        theirs.write_text("half")
        monkeypatch.undo()
        monkeypatch.setattr(leftovers, "_in_work", set())
        sweep(tmp_path)
        assert theirs.exists()


def test_what_this_process_is_writing_stays(tmp_path):
    with temporary_beside(tmp_path / "a.csv") as own:
        own.write_text("half")
        sweep(tmp_path)
        assert own.exists()
    assert names(tmp_path) == []


def test_a_number_that_this_process_got_after_a_killed_one_protects_nothing(tmp_path):
    with temporary_beside(tmp_path / "a.csv") as temporary:
        pass
    temporary.write_text("half, by an earlier process of this number")
    assert is_left(temporary)


def test_what_another_machine_writes_stays_for_a_day(tmp_path, monkeypatch, killed_temporary):
    theirs = killed_temporary(tmp_path / "a.csv")
    theirs.write_text("half")
    monkeypatch.setattr(leftovers, "_machine", lambda: "000000")
    assert not is_left(theirs)
    long_ago = time.time() - 25 * 3600
    os.utime(theirs, (long_ago, long_ago))
    assert is_left(theirs)


def test_hosts_of_one_name_are_told_apart(monkeypatch):
    own = leftovers._machine.__wrapped__()
    assert own == leftovers._machine.__wrapped__()
    read = Path.read_text

    def other(path, **how):
        return "another boot" if path.name == "boot_id" else read(path, **how)

    monkeypatch.setattr(Path, "read_text", other)
    assert leftovers._machine.__wrapped__() != own


def test_other_files_are_never_swept(tmp_path):
    others = ["a.tmp", ".hidden", ".a.tmp.csv", "tmp1234", ".lock", ".a.12-abc.tmp", "x.tmp.csv"]
    for name in others:
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_link_is_removed_and_what_it_points_to_is_not(tmp_path, killed_temporary):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("")
    killed_temporary(tmp_path / "a").symlink_to(tmp_path / "kept")
    sweep(tmp_path)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["file"]


@pytest.mark.parametrize("stem", ["n" * 251, "ü" * 125, "影" * 83])
def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path, stem):
    write_text(tmp_path / f"{stem}.csv", "whole")
    assert names(tmp_path) == [f"{stem}.csv"]


def test_a_failed_write_leaves_neither_file_nor_folder(tmp_path):
    def fail():
        with temporary_beside(tmp_path / "images") as folder:
            folder.mkdir()
            (folder / "a.jpg").write_text("")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == []


def test_pythons_temporary_files_lie_in_a_folder_that_goes(tmp_path, monkeypatch, killed_temporary):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = killed_temporary(tmp_path / "kderm")
    left.mkdir()
    with own_temporary_files():
        inside = Path(tempfile.mkdtemp())
        assert inside.parent.parent == tmp_path
        assert not left.exists()
        inside.rmdir()
    assert names(tmp_path) == []
    assert tempfile.tempdir == str(tmp_path)


USES_A_FOLDER_TO_THE_END = """
import os
from kderm.leftovers import own_temporary_files
with own_temporary_files():
    import atexit, shutil, tempfile
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
"""


def test_a_library_finds_its_temporary_folder_at_the_end_of_the_process(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", USES_A_FOLDER_TO_THE_END]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert names(tmp_path) == []


def test_without_a_place_for_temporary_files_a_command_still_begins(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    shutil.rmtree(gone)
    with own_temporary_files():
        assert tempfile.gettempdir() == str(gone)
