"""The member network: contract of every family, reference outputs, saving, freezing, precision."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.classifier import (
    GeM,
    as_float32,
    build_classifier,
    feature_map,
    load_classifier,
    set_backbone_trainable,
)
from kderm.models.presets import find_preset

TINY = "keras_cv/efficientnetv2_tiny"
# The smallest row of each family of each provider.
SMALLEST = (
    TINY,
    "keras_cv/efficientnetv1_b0",
    "keras_cv/efficientnetlite_b0",
    "keras_cv/resnet18",
    "keras_cv/resnet18_v2",
    "keras_applications/efficientnetb0",
    "keras_applications/resnet50v2",
    "keras_hub/efficientnet_lite0_ra_imagenet",
    "keras_hub/resnet_18_imagenet",
    # The one with keras-hub's fused and convolution blocks is not small.
    pytest.param("keras_hub/efficientnet2_rw_t_ra2_imagenet", marks=pytest.mark.slow),
)
SHARED = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[3] / "shared"))
LITE0 = SHARED / "weights" / "efficientnet_lite0_imagenet.keras"


def images(count=2, size=64, seed=0):
    pixels = np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3))
    return pixels.astype("float32")


def run(model, batch, training=False):
    return keras.ops.convert_to_numpy(model(batch, training=training))


def draw_weights(model, seed=0):
    """Weights under which every layer matters: statistics and biases of batch norms are random."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        drawn = []
        for weight in layer.weights:
            shape = tuple(weight.shape)
            if len(shape) > 1:
                drawn.append(rng.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape))
            elif "gamma" in weight.path or "variance" in weight.path:
                drawn.append(rng.uniform(0.5, 1.5, shape))
            else:
                drawn.append(rng.normal(0, 0.2, shape))
        if drawn and not isinstance(layer, keras.layers.Normalization):
            layer.set_weights(drawn)
    return model


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    return build_classifier(TINY, 32, 4, weights="none")


# === Contract of every family ===


@pytest.mark.parametrize("name", SMALLEST)
def test_each_family_gives_finite_logits_and_saves_as_ordinary_keras_layers(name, tmp_path):
    if name.startswith("keras_hub"):
        pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(1)
    classifier = build_classifier(name, 64, 5, weights="none")
    batch = images()
    logits = run(classifier, batch)
    assert logits.shape == (2, 5)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert len(feature_map(classifier).shape) == 4
    head = 5 * (feature_map(classifier).shape[-1] + 1)
    assert classifier.count_params() == find_preset(name).parameters + head

    path = tmp_path / "member.keras"
    classifier.save(path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").decode()
    assert "keras_cv" not in config
    assert "keras_hub" not in config
    assert run(load_classifier(path), batch) == pytest.approx(logits, abs=1e-6)


def test_the_default_head_is_average_pooling_dropout_and_logits(tiny):
    names = [layer.name for layer in tiny.layers[-3:]]
    assert names == ["pool", "dropout", "logits"]
    features = keras.Model(tiny.input, feature_map(tiny))
    batch = images(size=32)
    kernel, bias = tiny.get_layer("logits").get_weights()
    expected = run(features, batch).mean(axis=(1, 2)) @ kernel + bias
    assert run(tiny, batch) == pytest.approx(expected, abs=1e-5)


def test_a_size_too_small_for_any_backbone_is_refused():
    with pytest.raises(UserError, match="at least 32 pixels"):
        build_classifier(TINY, 16, 4, weights="none")


# === Reference outputs ===


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        ("keras_cv/efficientnetv1_b0", "keras_applications/efficientnetb0"),
        ("keras_cv/efficientnetv2_b0", "keras_applications/efficientnetv2b0"),
    ],
)
def test_keras_cv_gives_the_reference_outputs_under_reference_weights(ours, reference):
    theirs = draw_weights(build_backbone(find_preset(reference), 64, "none"))
    mine = build_backbone(find_preset(ours), 64, "none")
    for target, source in zip(
        [layer for layer in mine.layers if layer.weights],
        [layer for layer in theirs.layers if layer.weights],
        strict=True,
    ):
        target.set_weights(source.get_weights())
    batch = images() / 255
    # Behind the input scaling, which differs on purpose: it belongs to the weights.
    expected = run(keras.Model(theirs.get_layer("preprocess").output, theirs.output), batch)
    received = run(keras.Model(mine.get_layer("preprocess").output, mine.output), batch)
    assert np.abs(expected).max() > 0.1
    assert received == pytest.approx(expected, abs=1e-5)


def test_no_projection_of_keras_cv_v1_is_followed_by_an_activation(tmp_path):
    backbone = build_backbone(find_preset("keras_cv/efficientnetv1_b0"), 64, "none")
    backbone.save(tmp_path / "v1.keras")
    for model in (backbone, keras.saving.load_model(tmp_path / "v1.keras")):
        projections = [layer for layer in model.layers if layer.name.endswith("project_activation")]
        assert len(projections) == 16
        assert all(layer.activation is keras.activations.linear for layer in projections)


def test_lite_has_neither_squeeze_and_excite_nor_an_unbounded_activation():
    backbone = build_backbone(find_preset("keras_cv/efficientnetlite_b0"), 64, "none")
    assert not [layer for layer in backbone.layers if "se_" in layer.name]
    activations = [layer for layer in backbone.layers if layer.name.endswith("activation")]
    assert len(activations) > 30
    assert all(layer.activation is keras.activations.relu6 for layer in activations)


def test_stochastic_depth_of_keras_cv_reaches_the_rate_of_the_paper_and_no_more():
    backbone = build_backbone(find_preset("keras_cv/efficientnetv1_b1"), 64, "none")
    rates = [layer.rate for layer in backbone.layers if isinstance(layer, keras.layers.Dropout)]
    blocks = 23
    assert max(rates) == pytest.approx(0.2 * (blocks - 2) / blocks, abs=0.01)


# === GeM ===


@pytest.mark.parametrize(("exponent", "oracle"), [(1.0, np.mean), (200.0, np.max)])
def test_gem_lies_between_average_and_maximum(exponent, oracle):
    features = np.random.default_rng(0).uniform(0.5, 1, (2, 3, 4, 5)).astype("float32")
    pooled = run(GeM(initial=exponent), features)
    assert pooled == pytest.approx(oracle(features, axis=(1, 2)), rel=0.02)


def test_gem_learns_one_exponent_and_survives_saving(tmp_path):
    classifier = build_classifier(TINY, 32, 4, pooling="gem", weights="none")
    pool = classifier.get_layer("pool")
    assert len(pool.trainable_weights) == 1
    pool.exponent.assign(2.5)
    classifier.save(tmp_path / "gem.keras")
    batch = images(size=32)
    reloaded = load_classifier(tmp_path / "gem.keras")
    assert run(reloaded, batch) == pytest.approx(run(classifier, batch), abs=1e-6)


# === Freezing ===


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_frozen_backbone_trains_the_head_alone_and_keeps_its_statistics(reloaded, tiny, tmp_path):
    tiny.save(tmp_path / "tiny.keras")
    classifier = load_classifier(tmp_path / "tiny.keras") if reloaded else tiny
    set_backbone_trainable(classifier, False)
    assert [weight.path for weight in classifier.trainable_weights] == [
        "logits/kernel",
        "logits/bias",
    ]
    features = keras.Model(classifier.input, feature_map(classifier))
    before = [weight.copy() for weight in features.get_weights()]
    batch = images(size=32)
    assert np.array_equal(run(features, batch, training=True), run(features, batch))
    assert all(
        np.array_equal(old, new) for old, new in zip(before, features.get_weights(), strict=True)
    )

    set_backbone_trainable(classifier, True)
    assert len(classifier.trainable_weights) > 40
    assert not np.array_equal(run(features, batch, training=True), run(features, batch))


# === Precision ===


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_mixed_precision_keeps_pixels_and_logits_in_float32(mixed_bfloat16, tmp_path):
    classifier = build_classifier(TINY, 32, 4, weights="none")
    assert classifier.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert {
        classifier.get_layer(name).compute_dtype
        for name in ("preprocess", "pool", "dropout", "logits")
    } == {"float32"}
    assert run(classifier, images(size=32)).dtype == np.float32
    scaled = keras.Model(classifier.input, classifier.get_layer("preprocess").output)
    assert run(scaled, images(size=32)) == pytest.approx(images(size=32) / 255, abs=1e-6)

    classifier.save(tmp_path / "mixed.keras")
    plain = load_classifier(tmp_path / "mixed.keras")
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    assert as_float32(plain) is plain
    for ours, theirs in zip(classifier.get_weights(), plain.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_float32_classifier_needs_no_copy(tiny):
    assert as_float32(tiny) is tiny


@pytest.mark.parametrize("weights", ["preset", "none"])
def test_a_saved_backbone_follows_the_precision_that_is_asked(weights, mixed_bfloat16, tmp_path):
    path = save_extractor(tmp_path / "extractor.keras", dtype="float32")
    classifier = build_classifier(f"file/{path}", 48, 3, weights=weights)
    assert classifier.get_layer("convolution").compute_dtype == "bfloat16"
    assert classifier.get_layer("scaling").compute_dtype == "float32"


# === Saved feature extractors ===


def save_extractor(path, size=32, head=True, dtype=None):
    keras.utils.set_random_seed(3)
    image = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 128, -1, name="scaling", dtype=dtype)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, name="convolution", dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = x + keras.layers.Conv2D(8, 1, dtype=dtype)(x)
    x = keras.layers.ReLU(name="last", dtype=dtype)(x)
    if head:
        x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="gap", dtype=dtype)(x)
        x = keras.layers.Flatten(dtype=dtype)(x)
        x = keras.layers.Dense(2, dtype=dtype)(x)
    draw_weights(keras.Model(image, x)).save(path)
    return path


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("size", [32, 48])
def test_a_saved_extractor_serves_as_backbone_at_any_size(size, head, tmp_path):
    path = save_extractor(tmp_path / "extractor.keras", head=head)
    original = keras.saving.load_model(path)
    classifier = build_classifier(f"file/{path}", size, 3)
    assert classifier.input_shape == (None, size, size, 3)
    assert "gap" not in [layer.name for layer in classifier.layers]
    features = keras.Model(classifier.input, feature_map(classifier))
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
    batch = images(size=32)
    pooled = run(at_32, batch).mean(axis=(1, 2))
    assert pooled == pytest.approx(run(model, batch), rel=1e-4, abs=1e-5)
    assert "convolution" in [layer.name for layer in at_32.layers]
    at_48 = build_backbone(find_preset(f"file/{tmp_path / 'model.keras'}"), 48)
    assert at_48.output_shape == (None, 48, 48, 4)


def test_a_saved_extractor_can_start_from_new_weights_of_its_architecture(tmp_path):
    path = save_extractor(tmp_path / "extractor.keras")
    kept = build_backbone(find_preset(f"file/{path}"), 32, "preset")
    drawn = build_backbone(find_preset(f"file/{path}"), 32, "none")
    shapes = [weight.shape for weight in kept.weights]
    assert [weight.shape for weight in drawn.weights] == shapes
    assert np.isfinite(drawn.get_weights()[0]).all()
    assert not np.allclose(kept.get_weights()[0], drawn.get_weights()[0])


@pytest.mark.parametrize("weights", ["preset", "none"])
def test_input_scaling_learnt_by_the_file_stays_whatever_the_weights(weights, tmp_path):
    scaling = keras.layers.Normalization(name="scaling")
    scaling.adapt(images(size=32))
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


def test_a_file_that_is_no_keras_model_is_refused(tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"saved with model\.save"):
        load_classifier(tmp_path / "broken.keras")
    with pytest.raises(UserError, match="which is not there"):
        load_classifier(tmp_path / "absent.keras")


def test_a_member_with_weights_that_are_no_numbers_is_refused(tmp_path):
    classifier = build_classifier(TINY, 32, 4, weights="none")
    classifier.get_layer("logits").bias.assign([0, np.nan, 0, 0])
    classifier.save(tmp_path / "diverged.keras")
    with pytest.raises(UserError, match="not numbers"):
        load_classifier(tmp_path / "diverged.keras")


def test_a_file_with_python_code_is_refused(tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Lambda(lambda value: value * 2)(image)
    keras.Model(image, keras.layers.Conv2D(4, 3)(x)).save(tmp_path / "code.keras")
    with pytest.raises(UserError, match="Lambda layers are refused"):
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


# === Other backends ===

READ = """
import json, sys
import numpy as np
import keras
from kderm.models.classifier import load_classifier
batch = np.load(sys.argv[2])
logits = load_classifier(sys.argv[1]).predict(batch, verbose=0)
print(json.dumps({"logits": logits.tolist(), "keras_cv": "keras_cv" in sys.modules}))
"""


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_saved_member_gives_the_same_logits_under_each_backend(backend, tmp_path):
    if backend == keras.backend.backend():
        pytest.skip("the backend of this process")
    pytest.importorskip(backend)
    classifier = draw_weights(build_classifier(TINY, 32, 4, pooling="gem", weights="none"))
    classifier.save(tmp_path / "member.keras")
    np.save(tmp_path / "batch.npy", images(size=32))
    answer = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "member.keras", tmp_path / "batch.npy"],
        env=os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    received = json.loads(answer.stdout.splitlines()[-1])
    assert np.array(received["logits"]) == pytest.approx(run(classifier, images(size=32)), abs=1e-4)
    assert not received["keras_cv"]
