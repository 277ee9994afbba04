"""The whole job under each backend, each in processes of its own."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

BACKENDS = ["torch", "jax", "tensorflow"]


# Several commands by one start of Python, since a start takes longer than a tiny command.
SCRIPT = """
import json, sys
from kderm.cli import main
for command in json.loads(sys.argv[1]):
    main(command, standalone_mode=False)
"""


def installed():
    return [name for name in BACKENDS if importlib.util.find_spec(name) is not None]


def run_py(workplace, backend, *commands):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    environment.pop("KDERM_RUNS", None)
    given = json.dumps([[str(word) for word in command] for command in commands])
    command = [sys.executable, "-c", SCRIPT, given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workplace, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_overrides):
    """A folder with a run trained under each backend and called like it, and the outputs."""
    workplace = tmp_path_factory.mktemp("backends")
    overrides = [*tiny_overrides, "folds.k=2", "train.epochs=2"]
    outputs = {
        name: run_py(workplace, name, ["cv", "--run", name, *overrides]) for name in installed()
    }
    return workplace, outputs


@pytest.fixture(scope="module")
def answers(finished):
    """(trained under, answered under) -> probabilities of the unseen images."""
    workplace, _ = finished
    images = next((workplace / "runs" / "_data").glob("demo-unseen*")) / "HAM10000_metadata.csv"
    found = {}
    for backend in installed():
        places = {run: workplace / f"{run}-by-{backend}" for run in installed()}
        predict = [
            ["ensemble-predict", images, "--run", run, "--out", out] for run, out in places.items()
        ]
        run_py(workplace, backend, *predict)
        for run, out in places.items():
            table = pd.read_csv(out / "predictions.csv").sort_values("image_id")
            found[run, backend] = table.filter(regex="^p_").to_numpy()
    return found


@pytest.mark.parametrize("trained", BACKENDS)
def test_members_trained_under_one_backend_answer_the_same_under_all(finished, answers, trained):
    if trained not in installed():
        pytest.skip(f"{trained} is not installed")
    assert f"on {trained}" in finished[1][trained]
    own = answers[trained, trained]
    for backend in installed():
        np.testing.assert_allclose(answers[trained, backend], own, atol=1e-4, err_msg=backend)
    assert np.ptp(own, axis=0).max() > 1e-3
