"""Pretrained weights: found, fetched, and refused aloud. Only the network is pretended."""

import json
import shutil
import socket
import sys
import threading
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from kderm import download
from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.classifier import build_classifier
from kderm.models.presets import PRESETS, find_preset
from kderm.models.weights import fetch_weights, find_local, list_weights, resolve_weights

TINY = "keras_cv/efficientnetv2_tiny"
B0 = "keras_applications/efficientnetb0"
pytestmark = pytest.mark.usefixtures("empty_machine")


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A Kaggle that serves one keras-cv preset folder: the tiny row gets a handle."""
    import kagglehub

    from kderm.models.keras_file import import_keras_cv

    row = PRESETS[TINY]
    keras.utils.set_random_seed(11)
    keras_cv = import_keras_cv()
    original = getattr(keras_cv.models, row.builder)(
        include_rescaling=True, input_shape=(None, None, 3), **row.arguments
    )
    from keras_cv.src.utils.preset_utils import save_to_preset

    save_to_preset(original, str(tmp_path / "served"))
    handle = "keras/efficientnetv2/keras/efficientnetv2_tiny/2"
    monkeypatch.setitem(PRESETS, TINY, replace(row, source=f"kaggle://{handle}"))
    calls = []

    def download(asked, path=None):
        calls.append(asked)
        target = tmp_path / "kagglehub" / "models" / asked
        shutil.copytree(tmp_path / "served", target, dirs_exist_ok=True)
        return str(target)

    monkeypatch.setattr(kagglehub, "model_download", download)
    monkeypatch.setattr(socket, "create_connection", lambda *_: socket.socket())
    return original, calls, handle


def features(model, size=32):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    return keras.ops.convert_to_numpy(model(pixels, training=False))


# === Missing ===


def test_a_missing_weight_is_refused_with_the_three_things_to_do(no_network):
    name = "keras_cv/efficientnetv2_b0_imagenet"
    with pytest.raises(UserError) as caught:
        resolve_weights(find_preset(name), "preset")
    message = str(caught.value)
    assert f"Expected the weights of {name}" in message
    assert "Network is unreachable" in message
    assert f"weights fetch {name}" in message
    assert "model.weights=PATH" in message
    assert "model.weights=none" in message


def test_a_network_that_never_answers_is_given_up_within_seconds(monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_: threading.Event().wait())
    started = time.monotonic()
    with pytest.raises(UserError, match="no answer"):
        resolve_weights(find_preset(B0), "preset")
    assert time.monotonic() - started < 30


def test_preset_weights_of_a_bare_architecture_are_refused_and_its_twin_is_named():
    with pytest.raises(UserError, match=r"but keras_cv/efficientnetv2_b0_imagenet has"):
        build_classifier("keras_cv/efficientnetv2_b0", 64, 3, weights="preset")


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        build_classifier(TINY, 32, 3, weights=str(tmp_path / "absent.weights.h5"))


def test_none_means_random_weights_and_asks_nobody(no_network):
    assert resolve_weights(find_preset(B0), "none") is None
    assert no_network == []


@pytest.mark.parametrize(
    ("package", "name", "advice"),
    [
        ("keras_hub", "keras_hub/resnet_18_imagenet", r"pip install -e '\.\[hub\]'"),
        ("keras_cv", TINY, r"pip install 'keras-cv"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_install_line(
    package, name, advice, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=advice):
        build_backbone(find_preset(name), 32, "none")


def test_weights_of_provider_file_come_with_the_file_and_are_not_fetched(tmp_path):
    with pytest.raises(UserError, match="there is nothing to fetch"):
        fetch_weights(f"file/{tmp_path / 'net.keras'}")


# === keras-cv presets from Kaggle ===


def test_a_fetched_preset_is_found_again_and_gives_the_outputs_of_the_original(kaggle, tmp_path):
    original, calls, handle = kaggle
    folder = fetch_weights(TINY)
    assert folder == tmp_path / "weights" / TINY
    assert json.loads((folder / "source.json").read_text())["source"] == f"kaggle://{handle}"
    shutil.rmtree(tmp_path / "kagglehub")

    assert fetch_weights(TINY) == folder
    assert calls == [handle]
    backbone = build_backbone(find_preset(TINY), 32, "preset")
    assert features(backbone) == pytest.approx(features(original), abs=1e-5)


def test_a_fetched_folder_copied_to_another_machine_needs_no_network(kaggle, tmp_path, monkeypatch):
    original, _, _ = kaggle
    fetch_weights(TINY, tmp_path / "stick")
    shutil.rmtree(tmp_path / "kagglehub")
    monkeypatch.setattr(socket, "create_connection", None)

    by_path = build_backbone(find_preset(TINY), 32, str(tmp_path / "stick" / TINY))
    shutil.copytree(tmp_path / "stick", tmp_path / "weights")
    by_folder = build_backbone(find_preset(TINY), 32, "preset")
    expected = features(original)
    assert features(by_path) == pytest.approx(expected, abs=1e-5)
    assert features(by_folder) == pytest.approx(expected, abs=1e-5)


def test_weights_in_the_cache_of_kagglehub_are_used_where_they_lie(kaggle, tmp_path):
    _, calls, handle = kaggle
    import kagglehub

    kagglehub.model_download(handle)
    assert find_local(find_preset(TINY)) == tmp_path / "kagglehub" / "models" / handle
    resolve_weights(find_preset(TINY), "preset")
    assert calls == [handle]


def test_a_download_that_breaks_leaves_nothing_behind(kaggle, tmp_path, monkeypatch):
    import kagglehub

    def break_off(asked, path=None):
        raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(kagglehub, "model_download", break_off)
    with pytest.raises(UserError, match="connection reset by peer"):
        fetch_weights(TINY)
    assert not list((tmp_path / "weights" / "keras_cv").iterdir())


# === The list ===


def test_the_list_tells_where_each_preset_is_found(tmp_path):
    folder = tmp_path / "weights" / "keras_cv" / "resnet50_imagenet"
    folder.mkdir(parents=True)
    (folder / "model.weights.h5").write_bytes(b"")
    cached = tmp_path / "keras" / "models" / "efficientnetb0_notop.h5"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    table = list_weights().set_index("preset")
    assert list(table.index) == list(PRESETS)
    assert table.loc["keras_cv/resnet50_imagenet", "found"] == str(folder)
    assert table.loc[B0, "found"] == str(cached)
    assert table.loc["keras_hub/efficientnet_b3_ra2_imagenet", "found"] == "needs network"
    assert table.loc[TINY, "found"] == "none"
    assert table.loc[TINY, "parameters"] == PRESETS[TINY].parameters
