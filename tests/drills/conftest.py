"""The drills of benchmarks/drills, cut down: one tiny run for all of them."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.drills.workplace import TINY
from kderm.run_dir import RunDir


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """A folder with a finished run in runs/demo and three images in three/; read only."""
    from kderm.commands.training import cross_validate

    place = tmp_path_factory.mktemp("good")
    before = Path.cwd()
    os.chdir(place)
    try:
        cross_validate(None, None, None, [*TINY, "train.epochs=1"])
    finally:
        os.chdir(before)
    photos = sorted((place / "runs/_data/demo-unseen-40-seed43/HAM10000_images_part_1").iterdir())
    (place / "three").mkdir()
    for path in photos[:3]:
        shutil.copyfile(path, place / "three" / path.name)
    return place


@pytest.fixture(scope="session")
def good_run(good):
    """The finished run; read only."""
    return RunDir(good / "runs" / "demo")
