"""Saved feature extractors as backbones: at any size, with their weights or new ones."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.classifier import build_classifier
from kderm.models.presets import find_preset

SHARED = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[3] / "shared"))
LITE0 = SHARED / "weights" / "efficientnet_lite0_imagenet.keras"


def images(count=2, size=32, seed=0):
    pixels = np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3))
    return pixels.astype("float32")


def run(model, batch, training=False):
    return keras.ops.convert_to_numpy(model(batch, training=training))


@pytest.fixture
def save_extractor(tmp_path, draw_weights):
    def save(head=True, dtype=None):
        path = tmp_path / "extractor.keras"
        draw_weights(extractor(head, dtype)).save(path)
        return path

    return save


def extractor(head, dtype):
    """Rescaling, a strided convolution, a residual block, and a head with pooling if wanted."""
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 128, -1, name="scaling", dtype=dtype)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, name="convolution", dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = x + keras.layers.Conv2D(8, 1, dtype=dtype)(x)
    x = keras.layers.ReLU(name="last", dtype=dtype)(x)
    if head:
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="gap", dtype=dtype)(x)
        x = keras.layers.Flatten(dtype=dtype)(x)
        x = keras.layers.Dense(2, dtype=dtype)(x)
    return keras.Model(image, x)


@pytest.mark.parametrize("weights", ["preset", "none"])
def test_a_saved_backbone_follows_the_precision_that_is_asked(
    weights, mixed_bfloat16, save_extractor
):
    path = save_extractor(dtype="float32")
    classifier = build_classifier(f"file/{path}", 48, 3, weights=weights)
    assert classifier.get_layer("convolution").compute_dtype == "bfloat16"
    assert classifier.get_layer("scaling").compute_dtype == "float32"


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("size", [32, 48])
def test_a_saved_extractor_serves_as_backbone_at_any_size(size, head, save_extractor):
    path = save_extractor(head=head)
    original = keras.saving.load_model(path)
    classifier = build_classifier(f"file/{path}", size, 3)
    assert classifier.input_shape == (None, size, size, 3)
    assert "gap" not in [layer.name for layer in classifier.layers]
    features = keras.Model(classifier.input, classifier.get_layer("pool").input)
    top_left = images(size=size)[:, :32, :32]
    expected = run(keras.Model(original.input, original.get_layer("last").output), top_left)
    received = run(features, images(size=size))
    assert received.shape[1:] == ((size - 1) // 2, (size - 1) // 2, 8)
    assert received[:, :15, :15] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["nested", "sequential", "nested sequential"])
def test_a_saved_extractor_may_hold_models_inside(kind, tmp_path):
    keras.utils.set_random_seed(4)
    stack = [
        keras.layers.Conv2D(4, 3, padding="same", name="convolution"),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
    ]
    if kind == "sequential":
        model = keras.Sequential([keras.Input((32, 32, 3)), *stack])
        model.add(keras.layers.GlobalAveragePooling2D())
    else:
        if kind == "nested":
            inner_image = keras.Input((32, 32, 3))
            x = inner_image
            for layer in stack:
                x = layer(x)
            inner = keras.Model(inner_image, x)
        else:
            inner = keras.Sequential([keras.Input((32, 32, 3)), *stack])
        image = keras.Input((32, 32, 3))
        x = keras.layers.Rescaling(1 / 255)(image)
        model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(inner(x)))
    model.save(tmp_path / "model.keras")
    at_32 = build_backbone(find_preset(f"file/{tmp_path / 'model.keras'}"), 32)
    batch = images()
    pooled = run(at_32, batch).mean(axis=(1, 2))
    assert pooled == pytest.approx(run(model, batch), rel=1e-4, abs=1e-5)
    assert "convolution" in [layer.name for layer in at_32.layers]
    at_48 = build_backbone(find_preset(f"file/{tmp_path / 'model.keras'}"), 48)
    assert at_48.output_shape == (None, 48, 48, 4)


def test_a_saved_extractor_can_start_from_new_weights_of_its_architecture(save_extractor):
    path = save_extractor()
    kept = build_backbone(find_preset(f"file/{path}"), 32, "preset")
    drawn = build_backbone(find_preset(f"file/{path}"), 32, "none")
    shapes = [weight.shape for weight in kept.weights]
    assert [weight.shape for weight in drawn.weights] == shapes
    assert np.isfinite(drawn.get_weights()[0]).all()
    assert not np.allclose(kept.get_weights()[0], drawn.get_weights()[0])


@pytest.mark.parametrize("weights", ["preset", "none"])
def test_input_scaling_learnt_by_the_file_stays_whatever_the_weights(weights, tmp_path):
    scaling = keras.layers.Normalization(name="scaling")
    scaling.adapt(images())
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.Conv2D(4, 3)(scaling(image))).save(tmp_path / "net.keras")
    backbone = build_backbone(find_preset(f"file/{tmp_path / 'net.keras'}"), 48, weights)
    scaled = keras.Model(backbone.input, backbone.get_layer("scaling").output)
    expected = keras.ops.convert_to_numpy(scaling(images(size=48)))
    assert run(scaled, images(size=48)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("output", "message"),
    [("grey", "RGB images"), ("vector", "Expected a feature extractor")],
)
def test_a_saved_model_that_is_no_feature_extractor_is_refused(output, message, tmp_path):
    if output == "grey":
        image = keras.Input((32, 32, 1))
        model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    else:
        image = keras.Input((32, 32, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(image)
        extra = keras.Input((4,))
        model = keras.Model([image, extra], keras.layers.Concatenate()([pooled, extra]))
        message = "one input and one output"
    model.save(tmp_path / "model.keras")
    with pytest.raises(UserError, match=message):
        build_classifier(f"file/{tmp_path / 'model.keras'}", 32, 3)


def test_a_file_with_python_code_is_refused(tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Lambda(lambda value: value * 2)(image)
    keras.Model(image, keras.layers.Conv2D(4, 3)(x)).save(tmp_path / "code.keras")
    with pytest.raises(UserError, match="asks for Lambda, which may run code"):
        build_classifier(f"file/{tmp_path / 'code.keras'}", 32, 3)


@pytest.mark.skipif(not LITE0.exists(), reason="needs the real weights beside the repository")
def test_real_lite0_keeps_its_features_at_224_and_stays_sane_at_128():
    original = keras.saving.load_model(LITE0, compile=False)
    batch = images(1, 224)
    backbone = build_backbone(find_preset(f"file/{LITE0}"), 224)
    pooled = run(backbone, batch).mean(axis=(1, 2))
    assert pooled == pytest.approx(run(original, batch), abs=1e-4)

    small = build_backbone(find_preset(f"file/{LITE0}"), 128)
    assert small.output_shape == (None, 4, 4, 1280)
    features = run(small, images(1, 128))
    assert np.isfinite(features).all()
    assert 0 <= features.min() < features.max() <= 6
