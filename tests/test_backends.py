"""The whole job under each backend, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


BACKENDS = ["torch", "jax", "tensorflow"]


def run_py(workplace, backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, str(REPOSITORY / "run.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workplace, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def predictions(workplace, backend, run):
    images = next((workplace / "runs" / "_data").glob("demo-unseen*")) / "HAM10000_metadata.csv"
    out = workplace / f"{run}-by-{backend}"
    run_py(workplace, backend, "ensemble-predict", images, "--run", run, "--out", out)
    table = pd.read_csv(out / "predictions.csv").sort_values("image_id")
    return table.filter(regex="^p_").to_numpy()


@pytest.mark.parametrize("trained", BACKENDS)
def test_members_trained_under_one_backend_answer_the_same_under_all(
    tmp_path, tiny_overrides, trained
):
    if importlib.util.find_spec(trained) is None:
        pytest.skip(f"{trained} is not installed")
    overrides = [*tiny_overrides, "folds.k=2", "train.epochs=2"]
    output = run_py(tmp_path, trained, "cv", "--run", trained, *overrides)
    assert f"on {trained}" in output
    answers = {
        backend: predictions(tmp_path, backend, trained)
        for backend in BACKENDS
        if importlib.util.find_spec(backend) is not None
    }
    for backend, answer in answers.items():
        np.testing.assert_allclose(answer, answers[trained], atol=1e-4, err_msg=backend)
    assert np.ptp(answers[trained], axis=0).max() > 1e-3
