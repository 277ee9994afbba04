"""Places at paths and URLs, working copies of runs, and attempts at a fold."""

import hashlib
import json
import os
import shutil

import fsspec
import numpy as np
import pytest
from fsspec.spec import AbstractFileSystem

from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.run_dir import FoldDir, RunDir, open_run, runs_root
from kderm.storage import mirror
from kderm.storage.places import open_place
from kderm.training import attempts
from kderm.training.crossval import cross_validate, refuse_other_config, unfinished


class Bucket(AbstractFileSystem):
    """What every object store can do and no more: objects are put whole, read, listed, removed."""

    protocol = "bucket"
    cachable = False
    objects: dict = {}  # noqa: RUF012 - shared by all, as a bucket is
    puts: list = []  # noqa: RUF012
    fails_after = None

    def _key(self, path):
        return self._strip_protocol(path).strip("/")

    def ls(self, path, detail=True, **_):
        top = self._key(path)
        if top in self.objects:
            found = {top: self._info(top)}
        else:
            found = {}
            for key in self.objects:
                if key.startswith(f"{top}/"):
                    name, _, rest = key[len(top) + 1 :].partition("/")
                    folder = {"name": f"{top}/{name}", "size": 0, "type": "directory"}
                    found[f"{top}/{name}"] = folder if rest else self._info(key)
            if not found:
                raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def _info(self, key):
        content, count = self.objects[key]
        return {"name": key, "size": len(content), "type": "file", "ETag": f"e{count}"}

    def cat_file(self, path, start=None, end=None, **_):
        try:
            return self.objects[self._key(path)][0][start:end]
        except KeyError:
            raise FileNotFoundError(path) from None

    def pipe_file(self, path, value, mode="overwrite", **_):
        if self.fails_after is not None and len(self.puts) >= self.fails_after:
            raise OSError("the network is gone")
        self.puts.append(self._key(path))
        self.objects[self._key(path)] = bytes(value), len(self.puts)

    def put_file(self, lpath, rpath, **_):
        with open(lpath, "rb") as handle:
            self.pipe_file(rpath, handle.read())

    def get_file(self, rpath, lpath, **_):
        with open(lpath, "wb") as handle:
            handle.write(self.cat_file(rpath))

    def _rm(self, path):
        del self.objects[self._key(path)]

    def mv(self, *_, **__):
        raise NotImplementedError("an object store has no rename")

    def _open(self, *_, **__):
        raise NotImplementedError("an object store has no append")


fsspec.register_implementation("bucket", Bucket, clobber=True)


@pytest.fixture
def bucket(monkeypatch):
    for name, value in (("objects", {}), ("puts", []), ("fails_after", None)):
        monkeypatch.setattr(Bucket, name, value)
    return Bucket


@pytest.fixture(params=["path", "file", "memory", "bucket"])
def place(request, tmp_path, bucket):
    fsspec.filesystem("memory").store.clear()
    urls = {
        "path": tmp_path / "runs",
        "file": (tmp_path / "runs").as_uri(),
        "memory": "memory://box/runs",
        "bucket": "bucket://box/runs",
    }
    return open_place(urls[request.param])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KDERM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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


def filled(run):
    for name in ("config.yaml", "fold_0/model.keras", "fold_0/oof.csv", "fold_0/done.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (run / "fold_0" / "state.npz").write_text("only while it trains")
    (run / ".lock").write_text("")


def test_a_working_copy_is_pushed_with_done_last_and_pulled_by_another_machine(cache, bucket):
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
    tmp_path, bucket, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDERM_CACHE", "cache")
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    mirror.push((run / "fold_0").relative_to(tmp_path))
    mirror.push(run)
    assert len(bucket.objects) == 4


def test_what_changes_on_either_side_is_copied_and_what_goes_goes(cache, bucket):
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


def test_a_push_that_breaks_off_leaves_no_fold_that_looks_finished(cache, bucket, monkeypatch):
    run = mirror.working_copy("bucket://box/runs") / "a"
    filled(run)
    monkeypatch.setattr(bucket, "fails_after", 3)
    with pytest.raises(UserError, match="the network is gone"):
        mirror.push(run)
    assert "box/runs/a/fold_0/done.json" not in bucket.objects
    monkeypatch.setattr(bucket, "fails_after", None)
    mirror.push(run)
    assert len(bucket.objects) == 4


def all_files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_share_that_is_not_mounted_costs_neither_copy_of_a_run(cache, tmp_path):
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


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    def stale(folder):
        raise OSError(116, "Stale file handle")

    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("os.scandir", stale)
    with pytest.raises(UserError, match="Stale file handle"):
        open_place(tmp_path / "runs").files()


def test_a_push_removes_nothing_that_another_machine_has_replaced(cache, bucket):
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


def test_no_object_s_key_leads_out_of_the_working_copy(cache, bucket, tmp_path):
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


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("../../evil.txt", "a/fold_0/attempts/009-x/state.npz"),
        ("/tmp/evil.txt", "a/fold_0/attempts/009-x/state.npz"),
        ("state.npz", "a/fold_0/attempts/../../../secret"),
        ("state.npz", "secret"),
    ],
)
def test_a_record_that_names_files_elsewhere_is_not_followed(place, tmp_path, name, where):
    fold = fold_with(tmp_path, "first", state_npz="1")
    attempts.Attempt(place, "a/fold_0", "001-x", fold).keep(1)
    for kept in ("a/fold_0/attempts/009-x/state.npz", "secret"):
        place.write(kept, b"evil")
    told = {"epoch": 9, "files": {name: [where, hashlib.sha256(b"evil").hexdigest()]}}
    place.write("a/fold_0/attempts/009-x/00009.json", json.dumps(told).encode())
    second = fold_with(tmp_path, "second")
    assert attempts.bring_newest(place, "a/fold_0", second).epoch == 1
    assert content(second) == {"state.npz": "1"}


def fold_with(tmp_path, name, **files):
    fold = FoldDir(tmp_path / name / "fold_0")
    fold.path.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (fold.path / file.replace("_npz", ".npz").replace("_json", ".json")).write_text(text)
    return fold


def content(fold):
    return {path.name: path.read_text() for path in fold.path.iterdir()}


def test_the_next_attempt_begins_with_the_newest_whole_state(place, tmp_path):
    fold = fold_with(tmp_path, "first", state_npz="1", weights_best_npz="b1")
    first = attempts.Attempt(place, "a/fold_0", attempts.new_name(1), fold)
    first.keep(1)
    fold.state.write_text("22")
    first.keep(2)  # the best weights are those of before and are not sent again
    second = fold_with(tmp_path, "second")
    found = attempts.bring_newest(place, "a/fold_0", second)
    assert (found.epoch, content(second)) == (2, {"state.npz": "22", "weights_best.npz": "b1"})
    assert attempts.bring_newest(place, "a/fold_0", second, above=2) is None


def test_a_damaged_or_half_written_state_costs_one_epoch(place, tmp_path, capfd):
    fold = fold_with(tmp_path, "first", state_npz="1")
    attempt = attempts.Attempt(place, "a/fold_0", "001-x", fold)
    attempt.keep(1)
    fold.state.write_text("22")
    attempt.keep(2)
    place.write("a/fold_0/attempts/001-x/00002/state.npz", b"damaged")
    place.write("a/fold_0/attempts/001-x/00003/state.npz", b"its record was never written")
    second = fold_with(tmp_path, "second")
    assert attempts.bring_newest(place, "a/fold_0", second).epoch == 1
    assert content(second) == {"state.npz": "1"}
    assert "is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("left", [0, 4, 200])
def test_a_torn_state_counts_for_no_epoch(tmp_path, left):
    fold = fold_with(tmp_path, "a")
    np.savez(fold.state, state=np.array(json.dumps({"epoch": 3})))
    assert attempts.epochs_in(fold) == 3
    fold.state.write_bytes(fold.state.read_bytes()[:left])
    assert attempts.epochs_in(fold) == 0


def test_a_record_that_is_not_one_is_passed_over(place, tmp_path):
    fold = fold_with(tmp_path, "first", state_npz="1")
    attempts.Attempt(place, "a/fold_0", "001-x", fold).keep(1)
    for number, text in enumerate(('{"epoch": 9, "files": []}', "[1]", "{", '"x"', "null")):
        place.write(f"a/fold_0/attempts/002-y/0000{number}.json", text.encode())
    odd = {"epoch": 9, "files": {"state.npz": [1, "digest"]}}
    place.write("a/fold_0/attempts/002-y/00009.json", json.dumps(odd).encode())
    assert [record.epoch for record in attempts.records(place, "a/fold_0")] == [1]


def test_an_attempt_that_was_given_up_but_lives_on_spoils_nothing(place, tmp_path):
    stale_fold = fold_with(tmp_path, "stale", state_npz="stale 1")
    stale = attempts.Attempt(place, "a/fold_0", "001-x", stale_fold)
    stale.keep(1)
    fold = fold_with(tmp_path, "fold")
    attempt = attempts.Attempt(place, "a/fold_0", "002-y", fold)
    attempt.begin()
    for epoch in (2, 3):
        fold.state.write_text(f"{epoch}" * epoch)
        attempt.keep(epoch)
    stale_fold.state.write_text("stale 2")
    stale.keep(2)
    fold.state.unlink()
    (fold.path / "model.keras").write_text("model")
    fold.done.write_text(json.dumps({"fold": 0}))
    attempt.finish()
    stale.keep(2)
    driver = fold_with(tmp_path, "driver")
    assert attempts.bring_newest(place, "a/fold_0", driver).is_final
    assert set(content(driver)) == {"model.keras", "done.json"}
    attempts.forget_attempts(place, "a/fold_0")
    assert place.files() == []


def test_only_the_last_two_states_are_kept(place, tmp_path):
    fold = fold_with(tmp_path, "first", state_npz="1")
    attempt = attempts.Attempt(place, "a/fold_0", "001-x", fold)
    for epoch in range(1, 6):
        fold.state.write_text("1" * epoch)
        attempt.keep(epoch)
    assert {kept.name.split("/")[4][:5] for kept in place.files()} == {"00004", "00005"}


@pytest.mark.parametrize("url", ["bucket://box/runs", "file://{}/kept"])
def test_cv_at_a_url_goes_on_on_another_machine_after_its_last_epoch(
    workplace, tiny_overrides, cache, bucket, monkeypatch, capfd, url
):
    url = url.format(workplace)
    config = load_config(None, tiny_overrides)
    cross_validate(config, RunDir(workplace / "runs" / "tiny"))
    monkeypatch.setenv("KDERM_RUNS", url)
    keep = attempts.Attempt.keep

    def killed(self, epoch):
        keep(self, epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(attempts.Attempt, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(config, RunDir(runs_root() / "tiny"))
    monkeypatch.setattr(attempts.Attempt, "keep", keep)
    shutil.rmtree(cache)
    capfd.readouterr()
    run = RunDir(runs_root() / "tiny")
    mirror.pull(run.path)
    assert run.is_started
    cross_validate(config, run)
    assert "fold 0: continuing after epoch 2" in capfd.readouterr().out
    kept = open_place(url)
    for fold in range(3):
        own = (workplace / "runs" / "tiny" / f"fold_{fold}" / "oof.csv").read_bytes()
        assert kept.read(f"tiny/fold_{fold}/oof.csv") == own
    assert not any("attempts" in each.name for each in kept.files())


def test_a_run_is_opened_by_its_url_or_as_the_newest_there(cache, bucket, monkeypatch):
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
def test_what_is_no_name_of_a_run_at_a_url_is_refused(cache, bucket, monkeypatch, name):
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


def test_neither_a_log_nor_unfinished_folders_travel_with_a_state(place, tmp_path):
    fold = fold_with(tmp_path, "first", state_npz="1")
    fold.log.write_text("begun")
    (fold.path / ".brought.tmp").mkdir()
    (fold.path / ".brought.tmp" / "oof.csv").write_text("half")
    attempts.Attempt(place, "a/fold_0", "001-x", fold).keep(1)
    assert set(attempts.records(place, "a/fold_0")[0].files) == {"state.npz"}


def test_of_two_machines_the_one_that_finishes_a_fold_first_is_kept(
    cache, bucket, tmp_path, monkeypatch
):
    place = open_place("bucket://box/runs")
    folds = {}
    for machine in ("first", "second"):
        monkeypatch.setenv("KDERM_CACHE", str(tmp_path / machine))
        run = RunDir(mirror.working_copy("bucket://box/runs") / "a")
        fold = folds[machine] = run.fold(0)
        fold.path.mkdir(parents=True)
        fold.model.write_text(machine)
        fold.done.write_text(machine)
        attempts.settle(place, run, 0)
    assert place.read("a/fold_0/model.keras") == b"first"
    assert folds["second"].model.read_text() == folds["second"].done.read_text() == "first"


def test_attempts_that_a_finished_fold_left_go_with_the_next_command(cache, bucket):
    run = RunDir(mirror.working_copy("bucket://box/runs") / "a")
    filled(run.path)
    mirror.push(run.path)
    place = open_place("bucket://box/runs")
    place.write("a/fold_0/attempts/001-x/00001.json", b"{}")
    assert unfinished(run, [0, 1]) == [1]
    assert len(place.files()) == 4


def test_folds_without_a_config_say_what_to_remove(tmp_path, tiny_overrides):
    run = RunDir(tmp_path / "runs" / "a")
    run.fold(0).attempts.mkdir(parents=True)
    with pytest.raises(UserError, match="To begin the run anew remove that folder"):
        refuse_other_config(load_config(None, tiny_overrides), run)
