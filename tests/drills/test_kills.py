import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks.drills import kills
from benchmarks.drills.kills import VERBS, Verb, drill
from benchmarks.drills.remains import contents, damaged, differences, left_behind
from benchmarks.drills.workplace import TINY


def test_prepare_that_is_killed_finishes_as_if_it_was_not(tmp_path):
    found = drill(Verb("prepare", ("prepare", *TINY)), 2, tmp_path, seed=3)
    assert found.kills >= 2
    assert found.files > 100
    assert found.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])
def test_a_killed_command_finishes_as_if_it_was_not(verb, tmp_path):
    found = drill(verb, 4, tmp_path, seed=4)
    assert found.kills >= 4
    assert found.wrong == []


def test_the_drill_notices_a_command_that_does_not_get_on(tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "MOST_STARTS", 2)
    monkeypatch.setattr(kills, "AIMED", 0.0)
    monkeypatch.setattr(kills.random.Random, "uniform", lambda self, low, high: low)
    found = drill(Verb("prepare", ("prepare", *TINY)), 1, tmp_path, seed=1)
    assert "not finished after 2 starts" in found.wrong


@pytest.fixture
def folder(good, tmp_path):
    shutil.copytree(good / "runs" / "demo", tmp_path / "demo")
    return tmp_path / "demo"


def test_a_finished_run_is_whole_and_leaves_nothing(folder):
    assert damaged(folder) == []
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    "name", ["oof.csv", "metrics.json", "unlike.npz", "fold_1/model.keras", "figures/roc.png"]
)
def test_a_file_that_was_cut_short_is_noticed(folder, name):
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 30)
    assert [line.split(":")[0] for line in damaged(folder)] == [name]


def test_what_is_left_behind_is_noticed(folder, killed_temporary):
    left = killed_temporary(folder / "fold_0" / "state.npz")
    left.write_bytes(b"half")
    (folder / ".parts" / "abc").mkdir(parents=True)
    (folder / "tmpab12cd_e").write_bytes(b"")
    expected = [".parts", f"fold_0/{left.name}", "tmpab12cd_e"]
    assert left_behind(folder) == sorted(expected)
    assert damaged(folder) == []


def test_every_table_counts_in_a_comparison_and_seconds_do_not(folder):
    before = contents(folder)
    done = json.loads((folder / "fold_0" / "done.json").read_text())
    (folder / "fold_0" / "done.json").write_text(json.dumps(done | {"seconds": 1e9}))
    assert differences(before, contents(folder)) == []
    (folder / "fold_0" / "done.json").write_text(json.dumps(done | {"epochs": 99}))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "figures" / "roc.png")
    (folder / "oof.csv").unlink()
    (folder / "new.csv").write_text("a\n1\n")
    assert differences(before, contents(folder)) == [
        "oof.csv: missing",
        "new.csv: not in the undisturbed run",
        "figures/roc.png: other content",
        "fold_0/done.json: other content",
    ]
