"""The list of fonts is never written in place, and what a killed Matplotlib left is mended."""

import json
import os
import subprocess
import sys
import time

import pytest

MAKE = """
import os, sys
from pathlib import Path
from kderm.font_list import make_font_list
make_font_list()
assert "matplotlib.font_manager" not in sys.modules
cache = Path(os.environ["MPLCONFIGDIR"])
made = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
import matplotlib.font_manager
assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == made
print(*made)
"""


def names_after_a_start(cache):
    told = subprocess.run(
        [sys.executable, "-c", MAKE],
        env={**os.environ, "MPLCONFIGDIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.split()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache after the first start."""
    folder = tmp_path_factory.mktemp("cache")
    names_after_a_start(folder)
    return folder


def test_the_first_start_makes_one_whole_list_and_nothing_else(cache):
    (made,) = cache.iterdir()
    assert made.name.startswith("fontlist-")
    assert json.loads(made.read_text())["ttflist"]


def test_a_list_that_is_there_is_used(cache):
    (made,) = cache.iterdir()
    before = made.stat().st_mtime_ns
    assert names_after_a_start(cache) == [made.name]
    assert made.stat().st_mtime_ns == before


def test_half_a_list_and_the_lock_of_a_killed_start_are_replaced(cache, tmp_path):
    (made,) = cache.iterdir()
    half, lock = tmp_path / made.name, tmp_path / f"{made.name}.matplotlib-lock"
    half.write_text(made.read_text()[:1000])
    lock.touch()
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    assert names_after_a_start(tmp_path) == [made.name]
    assert json.loads(half.read_text())["ttflist"]


def test_the_lock_of_a_start_that_may_live_stays(cache, tmp_path):
    (made,) = cache.iterdir()
    (tmp_path / made.name).write_text(made.read_text())
    lock = tmp_path / f"{made.name}.matplotlib-lock"
    lock.touch()
    assert sorted(names_after_a_start(tmp_path)) == [made.name, lock.name]
