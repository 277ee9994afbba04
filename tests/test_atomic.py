"""Tables on their way to the disk."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from kderm import atomic
from kderm.atomic import locked, write_csv
from kderm.errors import UserError


def table(n):
    random = np.random.default_rng(0)
    names = [f"im,{row}" if row % 3 else 'a "b"' for row in range(n)]
    return pd.DataFrame({"image_id": names, "p": random.random(n), "age": [None, 0.0] * (n // 2)})


@pytest.mark.parametrize("rows_at_once", [1, 4, 7, 100])
def test_a_table_written_part_by_part_is_the_table_written_whole(
    tmp_path, monkeypatch, rows_at_once
):
    monkeypatch.setattr(atomic, "_ROWS_AT_ONCE", rows_at_once)
    write_csv(tmp_path / "t.csv", table(14), header="# é\n")
    whole = "# é\n" + table(14).to_csv(index=False, lineterminator="\n")
    assert (tmp_path / "t.csv").read_bytes() == whole.encode()


def test_each_part_is_rendered_and_a_table_without_rows_has_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_ROWS_AT_ONCE", 3)
    seen = []

    def render(rows):
        seen.append(len(rows))
        return rows.assign(p=[f"{value:.2g}" for value in rows["p"]])

    write_csv(tmp_path / "t.csv", table(8), render=render)
    assert seen == [3, 3, 2]
    assert pd.read_csv(tmp_path / "t.csv", dtype=str)["p"].str.len().max() <= 5
    write_csv(tmp_path / "none.csv", table(0), render=render)
    assert (tmp_path / "none.csv").read_text() == "image_id,p,age\n"


def test_a_failing_render_leaves_the_old_table(tmp_path):
    write_csv(tmp_path / "t.csv", table(2))
    before = (tmp_path / "t.csv").read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_csv(tmp_path / "t.csv", table(4), render=lambda rows: 1 // 0)
    assert (tmp_path / "t.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_lock_says_who_holds_it_and_is_refused_to_all_others(tmp_path):
    with (
        locked(tmp_path / "run", "Wait.", "cv"),
        pytest.raises(UserError, match=rf"^Wait\. At work there: cv, process {os.getpid()}\.$"),
        locked(tmp_path / "run", "Wait.", "evaluate"),
    ):
        pytest.fail("both hold the lock")


def test_folders_made_for_a_lock_go_with_it_unless_something_was_written(tmp_path):
    with locked(tmp_path / "runs" / "empty", "Wait."):
        pass
    assert not (tmp_path / "runs").exists()
    (tmp_path / "own").mkdir()
    for name in ("runs/full", "own"):
        with locked(tmp_path / name, "Wait."):
            (tmp_path / "runs" / "full" / "table.csv").write_text("")
    assert (tmp_path / "runs" / "full" / "table.csv").exists()
    assert (tmp_path / "own").is_dir()


def test_a_lock_survives_the_removal_of_its_file_by_the_holder_before(tmp_path, monkeypatch):
    opened = atomic.os.open

    def removed_behind_the_back(place, *more):
        handle = opened(place, *more)
        monkeypatch.setattr(atomic.os, "open", opened)
        place.unlink()
        place.parent.rmdir()
        return handle

    monkeypatch.setattr(atomic.os, "open", removed_behind_the_back)
    with locked(tmp_path / "run", "Wait.", "cv"):
        assert (tmp_path / "run" / ".lock").read_text().startswith("cv")


def test_a_long_wait_for_a_lock_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kderm.atomic._TELL_AFTER", 0.0)
    monkeypatch.setattr("kderm.atomic._LOOK_AGAIN", 0.01)
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / "run", "It is taken.", "copying"):
            waiting = pool.submit(hold, tmp_path / "run")
            time.sleep(0.3)
            assert not waiting.done()
        waiting.result(timeout=30)
    assert capsys.readouterr().out.count("It is taken. At work there: copying, process") == 1


def hold(folder):
    with locked(folder, "It is taken.", "copying", patient=True):
        pass
