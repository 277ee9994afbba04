"""Attempts at a fold that several machines make, and runs at URLs that go on elsewhere."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.run_dir import FoldDir, RunDir, runs_root
from kderm.storage import mirror
from kderm.storage.places import open_place
from kderm.training import attempts
from kderm.training.crossval import cross_validate, refuse_other_config, unfinished


def fold_with(tmp_path, name, **files):
    fold = FoldDir(tmp_path / name / "fold_0")
    fold.path.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (fold.path / file.replace("_npz", ".npz").replace("_json", ".json")).write_text(text)
    return fold


def content(fold):
    return {path.name: path.read_text() for path in fold.path.iterdir()}


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


def test_attempts_that_a_finished_fold_left_go_with_the_next_command(filled, cache, bucket):
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
