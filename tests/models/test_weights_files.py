"""Weights from files of one's own: each kind loads, and what does not fit is refused."""

import shutil

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.models.backbones import build_backbone
from kderm.models.classifier import build_classifier
from kderm.models.presets import PRESETS, find_preset

TINY = "keras_cv/efficientnetv2_tiny"
pytestmark = pytest.mark.usefixtures("empty_machine")


def features(model, size=32):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    return keras.ops.convert_to_numpy(model(pixels, training=False))


def randomised(model):
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.05, 0.2, weight.shape) for weight in model.weights])
    return model


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


def build_raw_tiny():
    """keras-cv's own model of the tiny row, with its composite blocks."""
    from kderm.models.keras_cv_backbones import build

    return build(PRESETS[TINY], 32, None)


def copy_by_name(source, target):
    by_name = {layer.name: layer for layer in source.layers}
    for layer in target._flatten_layers():
        if layer.name in by_name and by_name[layer.name].weights:
            layer.set_weights(by_name[layer.name].get_weights())
