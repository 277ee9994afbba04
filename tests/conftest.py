"""Shared pieces: tiny networks and tiny demo runs, in a folder of their own."""

import os
import subprocess
import sys

import pytest
from hypothesis import settings

from kderm import leftovers

# The same examples on every run: nothing fails by luck. `--hypothesis-profile default` draws anew.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Workers side by side share the cores: two pools of waiting threads would starve each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder, so that runs/ and cv_folds/ of the repository stay untouched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDERM_RUNS", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def killed_temporary():
    """Gives the temporary file beside a path that a process left which was killed by now."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    def left_beside(path):
        with leftovers.temporary_beside(path) as temporary:
            name = temporary.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
        leftovers._swept.discard(str(path.parent))  # nothing was looked for there yet
        return path.with_name(name)

    return left_beside


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A saved feature extractor of two convolutions: quick to build, with norms and no keras-cv."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    path = tmp_path_factory.mktemp("backbone") / "tiny.keras"
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)).save(path)
    return path


@pytest.fixture(scope="session")
def tiny_overrides(tiny_backbone):
    """Overrides that make the demo run in seconds."""
    return [
        "data.demo_images=105",
        "data.demo_size=40",
        "folds.k=3",
        "image.size=32",
        f"model.preset=file/{tiny_backbone}",
        "model.weights=preset",
        "train.epochs=3",
        "train.frozen_epochs=1",
        "train.batch_size=16",
        "predict.batch_size=16",
    ]
