"""Backbones against references: the blocks of keras-cv are those of the papers."""

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.presets import find_preset


def images(count=2, size=64, seed=0):
    pixels = np.random.default_rng(seed).uniform(0, 255, (count, size, size, 3))
    return pixels.astype("float32")


def run(model, batch, training=False):
    return keras.ops.convert_to_numpy(model(batch, training=training))


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        ("keras_cv/efficientnetv1_b0", "keras_applications/efficientnetb0"),
        ("keras_cv/efficientnetv2_b0", "keras_applications/efficientnetv2b0"),
    ],
)
def test_keras_cv_gives_the_reference_outputs_under_reference_weights(
    ours, reference, draw_weights
):
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


def test_the_small_cnn_halves_its_maps_five_times_and_has_a_few_100k_weights():
    for size, side in ((32, 1), (75, 3), (224, 7)):
        backbone = build_backbone(find_preset("kderm/small_cnn"), size, "none")
        assert backbone.output.shape[1:] == (side, side, 192)
        assert 300_000 < backbone.count_params() < 500_000


def test_the_small_cnn_takes_its_own_weights_and_asks_for_weights_none_otherwise(
    tmp_path, empty_machine, draw_weights
):
    row = find_preset("kderm/small_cnn")
    with pytest.raises(UserError, match=r"without pretrained weights.*model\.weights=none"):
        build_backbone(row, 32)
    before = draw_weights(build_backbone(row, 32, "none"))
    keras.Model(before.get_layer("preprocess").output, before.output).save_weights(
        tmp_path / "small.weights.h5"
    )
    after = build_backbone(row, 32, str(tmp_path / "small.weights.h5"))
    batch = images(size=32)
    np.testing.assert_array_equal(run(after, batch), run(before, batch))
