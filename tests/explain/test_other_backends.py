"""The same maps under the backends other than that of this process."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("maps_on_a_backend.py")
OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})


@pytest.mark.parametrize("backend", OTHERS)
def test_a_saved_member_has_the_same_maps_under_each_backend(backend, tmp_path, new_member, pixels):
    pytest.importorskip(backend)
    given = {
        "pixels": pixels,
        "classes": np.array([0, 3, 6, 2, 5]),
        "frames": np.random.default_rng(1).integers(0, 256, (5, 36, 48, 3)).astype("uint8"),
        "metadata": np.random.default_rng(0).normal(size=(5, 4)).astype("float32"),
    }
    np.savez(tmp_path / "inputs.npz", **given)
    members = [tmp_path / "plain.keras", tmp_path / "metadata.keras"]
    new_member(1).save(members[0])
    new_member(2, metadata=4).save(members[1])
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "inputs.npz", tmp_path / "maps.npz", *members],
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ours = runpy.run_path(str(SCRIPT))["maps_of"](given, members)
    theirs = np.load(tmp_path / "maps.npz")
    assert set(theirs) == set(ours)
    for name, maps in ours.items():
        assert maps.any()
        tolerance = 1e-4 if name.endswith("views") else 1e-5
        np.testing.assert_allclose(theirs[name], maps, atol=tolerance, err_msg=name)
