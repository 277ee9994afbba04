"""Pretrained weights: found, fetched, loaded, and refused aloud. Only the network is pretended."""

import hashlib
import http.server
import json
import shutil
import socket
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models import weights as weights_module
from kderm.models.backbones import build_backbone
from kderm.models.classifier import build_classifier
from kderm.models.presets import PRESETS, find_preset
from kderm.models.weights import fetch_weights, find_local, list_weights, resolve_weights

TINY = "keras_cv/efficientnetv2_tiny"
B0 = "keras_applications/efficientnetb0"


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No weights in any cache of this machine."""
    monkeypatch.setenv("KDERM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)


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


def randomised(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.05, 0.2, weight.shape) for weight in model.weights])
    return model


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
    monkeypatch.setattr(weights_module, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_: time.sleep(60))
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


def test_a_saved_backbone_takes_other_weights_of_its_architecture(tmp_path):
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="only")(image))
    model.save(tmp_path / "net.keras")
    model.get_layer("only").set_weights([np.full((3, 3, 3, 4), 0.5), np.ones(4)])
    model.save_weights(tmp_path / "other.weights.h5")
    row = find_preset(f"file/{tmp_path / 'net.keras'}")
    loaded = build_backbone(row, 48, str(tmp_path / "other.weights.h5"))
    assert np.all(loaded.get_layer("only").get_weights()[0] == 0.5)
    with pytest.raises(UserError, match="is not there"):
        build_backbone(row, 48, str(tmp_path / "absent.weights.h5"))


def test_none_means_random_weights_and_asks_nobody(no_network):
    assert resolve_weights(find_preset(B0), "none") is None


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


# === keras.applications over HTTP ===


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A server with B0's weights in keras.applications' own file format and statistics."""
    keras.utils.set_random_seed(12)
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    normalisation = next(
        layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)
    )
    # The published file holds deviations in place of variances; see keras.applications' comment.
    normalisation.set_weights(
        [np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), np.array(0)]
    )
    served = tmp_path / "served"
    served.mkdir()
    path = served / "efficientnetb0_notop.h5"
    model.save(path)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    row = replace(
        PRESETS[B0],
        source=f"http://127.0.0.1:{server.server_port}/{path.name}",
        checksum=hashlib.md5(path.read_bytes()).hexdigest(),
    )
    monkeypatch.setitem(PRESETS, B0, row)
    yield path
    server.shutdown()
    server.server_close()


def test_fetched_imagenet_weights_get_the_preprocessing_they_were_trained_with(bucket, monkeypatch):
    from keras.src.applications import efficientnet

    folder = fetch_weights(B0)
    assert (folder / bucket.name).read_bytes() == bucket.read_bytes()
    # Keras' own loading path, extra scaling included; only its download is short-cut.
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(bucket))
    reference = keras.applications.EfficientNetB0(include_top=False, input_shape=(64, 64, 3))
    ours = build_backbone(find_preset(B0), 64, "preset")
    expected = features(reference, 64)
    assert np.abs(expected).max() > 0
    tolerance = 1e-4 * float(np.abs(expected).max())
    assert features(ours, 64) == pytest.approx(expected, abs=tolerance)


def test_a_file_with_another_checksum_is_refused(bucket, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, B0, replace(PRESETS[B0], checksum="0" * 32))
    with pytest.raises(UserError, match="expected md5"):
        fetch_weights(B0)
    assert not list((tmp_path / "weights" / "keras_applications").iterdir())


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "EfficientNetV2S"])
def test_v2_scales_its_input_as_keras_applications_does(name, monkeypatch):
    reference = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    row = find_preset(f"keras_applications/{name.lower()}")
    stem = reference.get_layer("stem_conv")
    scaled = features(keras.Model(reference.input, stem.input))
    ours = build_backbone(row, 32, "none") if name.endswith("B0") else None
    if ours is not None:
        received = features(keras.Model(ours.input, ours.get_layer("preprocess").output))
    else:
        from kderm.models.presets import INPUT_CONVENTIONS

        scale, offset = INPUT_CONVENTIONS[row.convention]
        received = features(
            lambda x, training: keras.layers.Rescaling(list(scale), list(offset))(x)
        )
    assert received == pytest.approx(scaled, abs=1e-5)


def test_a_resnet_trained_on_bgr_reads_rgb(tmp_path):
    row = find_preset("keras_applications/resnet50")
    reference = keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    reference.save_weights(tmp_path / "resnet50.weights.h5")
    ours = build_backbone(row, 32, str(tmp_path / "resnet50.weights.h5"))

    def caffe(x, training):
        x = keras.applications.resnet.preprocess_input(np.array(x))
        return reference(x, training=training)

    assert features(ours) == pytest.approx(features(caffe), rel=1e-3, abs=1e-4)


# === Files of one's own ===


def test_weights_load_from_each_kind_of_file_and_from_their_folder(tmp_path):
    trained = randomised(build_backbone(find_preset(TINY), 32, "none"))
    trained.save(tmp_path / "trained.keras")
    expected = features(trained)
    raw = build_raw_tiny()
    copy_by_name(trained, raw)
    raw.save_weights(tmp_path / "model.weights.h5")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tmp_path / "trained.keras", folder)
    for path in (tmp_path / "trained.keras", tmp_path / "model.weights.h5", tmp_path, folder):
        loaded = build_backbone(find_preset(TINY), 32, str(path))
        assert features(loaded) == pytest.approx(expected, rel=1e-5)


def test_a_trained_member_hands_its_backbone_to_a_new_classifier(tmp_path):
    member = randomised(build_classifier(TINY, 32, 7, weights="none"))
    member.save(tmp_path / "member.keras")
    fresh = build_classifier(TINY, 48, 2, weights=str(tmp_path / "member.keras"))
    ours, theirs = fresh.get_layer("top_conv"), member.get_layer("top_conv")
    assert np.array_equal(ours.get_weights()[0], theirs.get_weights()[0])
    assert fresh.output_shape == (None, 2)


@pytest.mark.parametrize("suffix", ["donor.keras", "donor.weights.h5"])
def test_weights_of_another_architecture_are_refused(suffix, tmp_path):
    image = keras.Input((32, 32, 3))
    donor = keras.Model(image, keras.layers.Conv2D(5, 3, name="stem_conv")(image))
    path = tmp_path / suffix
    donor.save(path) if suffix.endswith(".keras") else donor.save_weights(path)
    with pytest.raises(UserError, match=f"Expected weights that fit {TINY}"):
        build_backbone(find_preset(TINY), 32, str(path))


@pytest.mark.parametrize("part", ["layers/batch_normalization_1", "layers/mb_conv_block/se_conv1"])
def test_a_file_that_lacks_some_layer_is_refused_not_filled_with_chance(part, tmp_path):
    import h5py

    raw = build_raw_tiny()
    raw.save_weights(tmp_path / "cut.weights.h5")
    with h5py.File(tmp_path / "cut.weights.h5", "a") as file:
        del file[part]
    with pytest.raises(UserError, match=f"Expected weights that fit {TINY}"):
        build_backbone(find_preset(TINY), 32, str(tmp_path / "cut.weights.h5"))


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"Expected a preset folder with model\.weights\.h5"):
        build_backbone(find_preset(TINY), 32, str(tmp_path))


def test_a_keras_hub_preset_folder_gives_the_outputs_of_the_original(tmp_path):
    hub = pytest.importorskip("keras_hub")
    name = "keras_hub/efficientnet_lite0_ra_imagenet"
    keras.utils.set_random_seed(13)
    row = find_preset(name)
    original = getattr(hub.models, row.builder)(**row.arguments)
    original.save_to_preset(str(tmp_path / "weights" / name))
    ours = build_backbone(row, 64, "preset")

    def imagenet(x, training):
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        return original(((x / 255 - mean) / std).astype("float32"), training=training)

    assert features(ours, 64) == pytest.approx(features(imagenet, 64), rel=1e-3, abs=1e-4)
    other = find_preset("keras_hub/efficientnet_b1_ft_imagenet")
    with pytest.raises(UserError, match="3,413,024 parameters instead of 6,575,232"):
        build_backbone(other, 64, str(tmp_path / "weights" / name))


@pytest.mark.parametrize(
    ("package", "name", "advice"),
    [
        ("keras_hub", "keras_hub/resnet_18_imagenet", r"pip install 'kderm\[hub\]'"),
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


def build_raw_tiny():
    """keras-cv's own model of the tiny row, with its composite blocks."""
    from kderm.models.keras_cv_backbones import build

    return build(PRESETS[TINY], 32, None)


def copy_by_name(source, target):
    by_name = {layer.name: layer for layer in source.layers}
    for layer in target._flatten_layers():
        if layer.name in by_name and by_name[layer.name].weights:
            layer.set_weights(by_name[layer.name].get_weights())
