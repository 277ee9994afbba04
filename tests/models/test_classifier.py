"""The member network: its head, pooling, freezing, precision, and files it is not read from."""

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.classifier import (
    GeM,
    as_float32,
    build_classifier,
    load_classifier,
    set_backbone_trainable,
)

TINY = "keras_cv/efficientnetv2_tiny"


def images(count=2, size=32, seed=0):
    pixels = np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3))
    return pixels.astype("float32")


def run(model, batch, training=False):
    return keras.ops.convert_to_numpy(model(batch, training=training))


def features_of(classifier):
    """The part of `classifier` before its pooling."""
    return keras.Model(classifier.input, classifier.get_layer("pool").input)


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    return build_classifier(TINY, 32, 4, weights="none")


def test_the_default_head_is_average_pooling_dropout_and_logits(tiny):
    names = [layer.name for layer in tiny.layers[-3:]]
    assert names == ["pool", "dropout", "logits"]
    features = features_of(tiny)
    batch = images()
    kernel, bias = tiny.get_layer("logits").get_weights()
    expected = run(features, batch).mean(axis=(1, 2)) @ kernel + bias
    assert run(tiny, batch) == pytest.approx(expected, abs=1e-5)


def test_a_size_too_small_for_any_backbone_is_refused():
    with pytest.raises(UserError, match="at least 32 pixels"):
        build_classifier(TINY, 16, 4, weights="none")


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
    batch = images()
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
    features = features_of(classifier)
    before = [weight.copy() for weight in features.get_weights()]
    batch = images()
    assert np.array_equal(run(features, batch, training=True), run(features, batch))
    assert all(
        np.array_equal(old, new) for old, new in zip(before, features.get_weights(), strict=True)
    )

    set_backbone_trainable(classifier, True)
    assert len(classifier.trainable_weights) > 40
    assert not np.array_equal(run(features, batch, training=True), run(features, batch))


# === Precision ===


def test_mixed_precision_keeps_pixels_and_logits_in_float32(mixed_bfloat16, tmp_path):
    classifier = build_classifier(TINY, 32, 4, weights="none")
    assert classifier.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert {
        classifier.get_layer(name).compute_dtype
        for name in ("preprocess", "pool", "dropout", "logits")
    } == {"float32"}
    assert run(classifier, images()).dtype == np.float32
    scaled = keras.Model(classifier.input, classifier.get_layer("preprocess").output)
    assert run(scaled, images()) == pytest.approx(images() / 255, abs=1e-6)

    classifier.save(tmp_path / "mixed.keras")
    plain = load_classifier(tmp_path / "mixed.keras")
    assert {layer.compute_dtype for layer in plain.layers[1:]} == {"float32"}
    assert as_float32(plain) is plain
    for ours, theirs in zip(classifier.get_weights(), plain.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_float32_classifier_needs_no_copy(tiny):
    assert as_float32(tiny) is tiny


# === Files ===


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
