"""keras.applications: fetched over HTTP, and each with the input scaling it was trained with."""

import hashlib
import http.server
import threading
from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.presets import INPUT_CONVENTIONS, PRESETS, find_preset
from kderm.models.weights import fetch_weights

B0 = "keras_applications/efficientnetb0"
pytestmark = pytest.mark.usefixtures("empty_machine")


def features(model, size=32):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    return keras.ops.convert_to_numpy(model(pixels, training=False))


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
