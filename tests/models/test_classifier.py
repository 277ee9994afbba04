"""The member network: its head, pooling, freezing, precision, and files it is not read from."""

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.classifier import (
    GeM,
    MultiSampleDropout,
    as_float32,
    build_classifier,
    input_size,
    load_classifier,
    metadata_width,
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


# === Metadata ===


def test_metadata_go_through_two_dense_layers_to_the_pooled_features(draw_weights):
    classifier = draw_weights(build_classifier(TINY, 32, 4, weights="none", metadata_width=5))
    assert [tuple(item.shape) for item in classifier.inputs] == [(None, 32, 32, 3), (None, 5)]
    assert (input_size(classifier), metadata_width(classifier)) == (32, 5)
    batch, metadata = images(), np.random.default_rng(1).normal(size=(2, 5)).astype("float32")
    pooled = keras.Model(classifier.inputs[0], classifier.get_layer("pool").output)
    x = metadata
    for name in ("metadata_hidden", "metadata_features"):
        kernel, bias = classifier.get_layer(name).get_weights()
        x = np.maximum(x @ kernel + bias, 0)
    kernel, bias = classifier.get_layer("logits").get_weights()
    expected = np.concatenate([run(pooled, batch), x], axis=1) @ kernel + bias
    assert run(classifier, [batch, metadata]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_member_of_the_image_alone_has_no_metadata(tiny):
    assert (input_size(tiny), metadata_width(tiny)) == (32, 0)


def test_a_member_with_metadata_survives_saving_and_mixed_precision(
    mixed_bfloat16, tmp_path, draw_weights
):
    classifier = build_classifier(TINY, 32, 4, weights="none", metadata_width=5, dropout_samples=3)
    for name in ("metadata_hidden", "metadata_features", "image_and_metadata", "dropout"):
        assert classifier.get_layer(name).compute_dtype == "float32"
    plain = as_float32(draw_weights(classifier))
    plain.save(tmp_path / "member.keras")
    again = load_classifier(tmp_path / "member.keras")
    inputs = [images(), np.ones((2, 5), "float32")]
    np.testing.assert_array_equal(run(again, inputs), run(plain, inputs))


# === Multi-sample dropout ===


def test_multi_sample_dropout_changes_nothing_when_not_training(draw_weights):
    plain = draw_weights(build_classifier(TINY, 32, 4, weights="none", dropout=0.4))
    several = draw_weights(
        build_classifier(TINY, 32, 4, weights="none", dropout=0.4, dropout_samples=3)
    )
    assert [w.shape for w in plain.trainable_weights] == [
        w.shape for w in several.trainable_weights
    ]
    for ours, theirs in zip(several.trainable_weights, plain.trainable_weights, strict=True):
        ours.assign(theirs)
    for ours, theirs in zip(several.layers, plain.layers, strict=True):
        if isinstance(ours, keras.layers.BatchNormalization):
            ours.set_weights(theirs.get_weights())
    np.testing.assert_array_equal(run(several, images()), run(plain, images()))


def test_each_of_its_masks_drops_a_share_and_scales_the_rest():
    keras.utils.set_random_seed(0)
    drawn = run(MultiSampleDropout(0.25, 4), np.ones((500, 64), "float32"), training=True)
    kept = drawn * 4 * 0.75
    np.testing.assert_allclose(kept, kept.round(), atol=1e-4)  # of four masks, whole ones keep
    assert set(kept.round().ravel()) == {0, 1, 2, 3, 4}
    assert drawn.mean() == pytest.approx(1, abs=0.01)
    single = run(keras.layers.Dropout(0.25), np.ones((500, 64), "float32"), training=True)
    assert drawn.std() == pytest.approx(single.std() / 2, rel=0.05)


def test_the_mean_mask_gives_the_mean_of_the_logits_of_each_mask():
    keras.utils.set_random_seed(0)
    features = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    dense = keras.layers.Dense(4)
    dense.build((None, 16))
    dropout = MultiSampleDropout(0.5, 5, seed=1)
    masks = keras.ops.convert_to_numpy(
        keras.random.dropout(keras.ops.ones((5, 3, 16)), 0.5, seed=keras.random.SeedGenerator(1))
    )
    expected = np.mean([run(dense, features * mask) for mask in masks], axis=0)
    found = run(dense, keras.ops.convert_to_numpy(dropout(features, training=True)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


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
