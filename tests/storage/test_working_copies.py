"""Runs at a URL and their copies on this machine."""

import os
import shutil
import subprocess
import sys
import threading

import pytest

from kderm.errors import UserError
from kderm.run_dir import open_run
from kderm.storage import mirror
from kderm.storage.places import open_place


def all_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_working_copy_is_pushed_with_done_last_and_pulled_by_another_machine(
    filled, cache, bucket
):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push(run)
    assert bucket.puts[-1] == "box/runs/a/fold_0/done.json"
    assert not any("state" in name or "lock" in name for name in bucket.objects)
    puts = len(bucket.puts)
    mirror.push(run)
    assert len(bucket.puts) == puts  # nothing has changed
    shutil.rmtree(cache)
    run = mirror.working_copy("bucket://box/runs") / "a"
    mirror.pull(run)
    assert (run / "fold_0" / "oof.csv").read_text() == "fold_0/oof.csv"
    assert mirror.kept_at(run) == "bucket://box/runs/a"


def test_a_cache_at_a_relative_path_and_a_run_given_by_one_are_pushed(
    filled, tmp_path, bucket, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDERM_CACHE", "cache")
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push((run / "fold_0").relative_to(tmp_path))
    mirror.push(run)
    assert len(bucket.objects) == 4


def test_what_changes_on_either_side_is_copied_and_what_goes_goes(filled, cache, bucket):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push(run)
    (run / "fold_0" / "oof.csv").unlink()
    (run / "config.yaml").write_text("newer here")
    mirror.push(run)
    place = open_place("bucket://box/runs")
    assert place.read("a/config.yaml") == b"newer here"
    assert place.find("a/fold_0/oof.csv") is None
    place.write("a/config.yaml", b"newer there")
    place.remove("a/fold_0/model.keras")
    mirror.pull(run)
    assert (run / "config.yaml").read_text() == "newer there"
    assert not (run / "fold_0" / "model.keras").exists()


def test_a_push_that_breaks_off_leaves_no_fold_that_looks_finished(
    filled, cache, bucket, monkeypatch
):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    monkeypatch.setattr(bucket, "fails_after", 3)
    with pytest.raises(UserError, match="the network is gone"):
        mirror.push(run)
    assert "box/runs/a/fold_0/done.json" not in bucket.objects
    monkeypatch.setattr(bucket, "fails_after", None)
    mirror.push(run)
    assert len(bucket.objects) == 4


def test_a_share_that_is_not_mounted_costs_neither_copy_of_a_run(filled, cache, tmp_path):
    share, away = tmp_path / "share", tmp_path / "away"
    run = mirror.working_copy(f"file://{share}") / "a"
    filled(run)
    mirror.push(run)
    before = all_files(run), all_files(share)
    share.rename(away)
    for mounted in (False, True):
        if mounted:
            share.mkdir()  # the empty folder that a disk is mounted on
        with pytest.raises(UserError, match="is its disk mounted"):
            mirror.pull(run)
    share.rmdir()
    away.rename(share)
    mirror.pull(run)
    mirror.push(run)
    assert (all_files(run), all_files(share)) == before


def test_a_push_removes_nothing_that_another_machine_has_replaced(filled, cache, bucket):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push(run)
    place = open_place("bucket://box/runs")
    place.write("a/fold_0/oof.csv", b"another machine's")
    for name in ("fold_0/oof.csv", "config.yaml"):
        (run / name).unlink()
    mirror.push(run)
    assert place.read("a/fold_0/oof.csv") == b"another machine's"
    assert place.find("a/config.yaml") is None


def test_two_commands_copy_files_of_one_run_one_after_the_other(filled, cache, bucket, monkeypatch):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    (run / "fold_1").mkdir()
    (run / "fold_1" / "oof.csv").write_text("of the other fold")
    put, other = bucket.put_file, threading.Thread(target=mirror.push, args=(run / "fold_1",))
    waited = []

    def put_while_another_begins(self, lpath, rpath, **how):
        if not waited:
            other.start()
            other.join(0.5)
            waited.append(other.is_alive())
        put(self, lpath, rpath, **how)

    monkeypatch.setattr(bucket, "put_file", put_while_another_begins)
    mirror.push(run / "fold_0")
    other.join()
    assert waited == [True]
    assert not mirror.is_others(run / "fold_0" / "oof.csv")
    assert not mirror.is_others(run / "fold_1" / "oof.csv")


def test_the_index_is_written_once_a_batch_and_now_and_then_in_a_long_one(
    filled, cache, bucket, monkeypatch
):
    written = []
    monkeypatch.setattr(mirror, "write_json", lambda path, value: written.append(len(value)))
    for seconds, writes in ((1e9, [4]), (-1.0, [1, 2, 3, 4])):
        monkeypatch.setattr(mirror, "_SAVED_EVERY", seconds)
        run = mirror.working_copy("bucket://box/runs") / "a"
        filled(run)
        mirror.push(run)
        assert written == writes
        shutil.rmtree(cache)
        written.clear()
        mirror.pull(mirror.working_copy("bucket://box/runs") / "a")
        assert written == writes
        shutil.rmtree(cache)
        written.clear()


def test_a_push_that_was_killed_is_done_again_and_nothing_is_taken_for_copied(
    filled, cache, tmp_path
):
    share = tmp_path / "share"
    run = mirror.working_copy(f"file://{share}") / "a"
    filled(run)
    mirror.push(run)
    (run / "config.yaml").write_text("newer")
    (run / "fold_0" / "oof.csv").write_text("newer")
    (run / "tables.csv").write_text("new")
    killed = (
        "import os, sys; from pathlib import Path; from kderm.storage import mirror, places\n"
        "put = places.Place.upload\n"
        "def upload(place, path, name):\n"
        "    put(place, path, name)\n"
        "    name.endswith('oof.csv') and os.kill(os.getpid(), 9)\n"
        "places.Place.upload = upload\n"
        "mirror.push(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", killed, str(run)], check=False)
    assert ended.returncode == -9
    mirror.pull(run)
    mirror.push(run)
    for name in ("config.yaml", "fold_0/oof.csv", "tables.csv"):
        assert (share / "a" / name).read_text() == (run / name).read_text()
    assert (run / "fold_0" / "oof.csv").read_text() == "newer"
    assert (run / "tables.csv").read_text() == "new"


def test_a_folder_of_predictions_called_attempts_is_copied_a_fold_s_attempts_are_not(
    filled, cache, bucket
):
    run = mirror.working_copy("bucket://box/runs") / "a"
    for name in ("predictions/attempts/predictions.csv", "fold_0/attempts/000-1/final.json"):
        (run / name).parent.mkdir(parents=True)
        (run / name).write_text(name)
    mirror.push(run)
    assert list(bucket.objects) == ["box/runs/a/predictions/attempts/predictions.csv"]
    bucket.objects["box/runs/a/fold_0/attempts/000-2/final.json"] = b"{}", 1
    shutil.rmtree(cache)
    run = mirror.working_copy("bucket://box/runs") / "a"
    mirror.pull(run)
    assert (run / "predictions" / "attempts" / "predictions.csv").is_file()
    assert (run / "fold_0" / "attempts").is_dir()
    assert not list((run / "fold_0" / "attempts").iterdir())


def test_no_object_s_key_leads_out_of_the_working_copy(filled, cache, bucket, tmp_path):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push(run)
    keys = ("/../../../../evil.txt", f"/{tmp_path}/evil.txt", "/fold_0/../../../evil/attempts/x/1")
    for key in (*keys, "/.origin"):
        bucket.objects[f"box/runs/a{key}"] = b"bucket://evil", 1
    before = all_files(tmp_path)
    mirror.pull(run)
    assert all_files(tmp_path) == before
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert mirror.origin_url(run) == "bucket://box/runs"
    assert len(open_place("bucket://box/runs").files("a")) == 4 + len(["/.origin"])


def test_a_run_is_opened_by_its_url_or_as_the_newest_there(filled, cache, bucket, monkeypatch):
    for name in ("old", "new"):
        run = mirror.working_copy("bucket://box/runs") / name
        filled(run)
        (run / "ensemble.json").write_text("{}")
        mirror.push(run)
    shutil.rmtree(cache)
    assert open_run("bucket://box/runs/old").bundle.is_file()
    monkeypatch.setenv("KDERM_RUNS", "bucket://box/runs")
    assert open_run("new").bundle.is_file()
    with pytest.raises(UserError, match="Unknown run"):
        open_run("newer")


@pytest.mark.parametrize("name", ["", ".", "..", "_stores"])
def test_what_is_no_name_of_a_run_at_a_url_is_refused(filled, cache, bucket, monkeypatch, name):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push(run)
    shutil.rmtree(cache)
    monkeypatch.setenv("KDERM_RUNS", "bucket://box/runs")
    with pytest.raises(UserError, match="Expected the name of a run at bucket://box/runs"):
        open_run(name)
    assert not list(cache.rglob("config.yaml"))


def test_the_newest_run_is_the_one_written_last_not_the_one_brought_last(
    cache, tmp_path, monkeypatch
):
    url = f"file://{tmp_path}/share"
    for second, name in enumerate(("old", "new")):
        path = tmp_path / "share" / name / "ensemble.json"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
        os.utime(path, (1000 + second, 1000 + second))
    monkeypatch.setenv("KDERM_RUNS", url)
    assert open_run("new").name == "new"
    assert open_run("old").name == "old"
    assert open_run(None).name == "new"
