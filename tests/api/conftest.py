import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from kderm.run_dir import RunDir

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def command():
    """command(*words, cwd): run `run.py` in a process of its own, and its output."""

    def run(*words, cwd):
        line = [sys.executable, str(REPOSITORY / "run.py"), *map(str, words)]
        environment = {name: value for name, value in os.environ.items() if name != "KDERM_RUNS"}
        done = subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_overrides, command):
    """A finished run on the tiny demo; read only."""
    place = tmp_path_factory.mktemp("finished")
    command("cv", "--run", "tiny", *tiny_overrides, cwd=place)
    return RunDir(place / "runs" / "tiny")


@pytest.fixture(scope="session")
def unseen(finished):
    """The CSV of a second demo data set, which names lesions and labels."""
    return next((finished.path.parent / "_data").glob("demo-unseen*/HAM10000_metadata.csv"))


@pytest.fixture(scope="session")
def photos(unseen):
    """Twelve of its files, in the order of the CSV."""
    ids = pd.read_csv(unseen)["image_id"][:12]
    return [next(unseen.parent.rglob(f"{image_id}.*")) for image_id in ids]
