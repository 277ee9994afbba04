import os
import time

from kderm.app.workroom import Workroom


def test_the_folder_is_there_inside_and_gone_behind():
    with Workroom() as workroom:
        assert workroom.path.is_dir()
        assert workroom.path.stat().st_mode & 0o077 == 0  # other users see nothing
        (workroom.path / "left.jpg").write_bytes(b"x")
    assert not workroom.path.exists()


def test_forgotten_uploads_go_with_the_folders_that_held_nothing_else(workroom):
    for name in ("one/a.jpg", "two/a.jpg", "two/b.jpg"):
        path = workroom.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    workroom.forget([workroom.path / "one/a.jpg", str(workroom.path / "two/a.jpg")])
    left = sorted(path.relative_to(workroom.path).as_posix() for path in workroom.path.rglob("*"))
    assert left == ["two", "two/b.jpg"]


def test_files_elsewhere_are_not_forgotten(workroom, tmp_path):
    outside = tmp_path / "mine.jpg"
    outside.write_bytes(b"x")
    (workroom.path / "link.jpg").symlink_to(outside)
    workroom.forget([outside, workroom.path / "link.jpg", workroom.path / ".." / "x", "gone.jpg"])
    assert outside.exists()
    assert workroom.path.is_dir()


def test_what_nobody_asked_about_goes_after_its_time(workroom):
    old, new = workroom.path / "old" / "a.jpg", workroom.path / "new.jpg"
    old.parent.mkdir()
    for path in (old, new):
        path.write_bytes(b"x")
    before = time.time() - 100
    for path in (old, old.parent):
        os.utime(path, (before, before))
    workroom.sweep(50)
    assert not old.exists()
    assert new.exists()
    os.utime(workroom.path / "old", (before, before))  # it was touched when its file went
    workroom.sweep(50)
    assert not old.parent.exists()
