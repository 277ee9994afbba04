"""The registry of backbones: every row's facts, and what an unknown name answers."""

import re
from collections import Counter

import pytest

from kderm.errors import UserError
from kderm.models.presets import INPUT_CONVENTIONS, PRESETS, find_preset

ROWS = list(PRESETS.values())
FAMILIES = {
    "efficientnet_v1",
    "efficientnet_v2",
    "efficientnet_lite",
    "resnet_v1",
    "resnet_v2",
    "small_cnn",
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_states_its_facts(row):
    assert row.name.startswith(f"{row.provider}/")
    assert row.family in FAMILIES
    assert row.convention in INPUT_CONVENTIONS
    assert row.licence in ("Apache-2.0", "MIT")
    assert 32 <= row.size <= 600
    assert row.parameters > 100_000
    if row.source.startswith("http"):
        assert re.fullmatch(r"[0-9a-f]{32}", row.checksum)
    elif row.source:
        assert re.fullmatch(r"kaggle://keras/\w+/keras/\w+/\d+", row.source)


def test_the_registry_has_the_backbones_it_promises():
    names = set(PRESETS)
    for scale in ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"):
        assert f"keras_cv/efficientnetv1_{scale}" in names
        assert f"keras_applications/efficientnet{scale}" in names
    for scale in ("b0", "b1", "b2", "b3", "s", "m", "l"):
        assert f"keras_cv/efficientnetv2_{scale}" in names
        assert f"keras_applications/efficientnetv2{scale}" in names
    for scale in ("b0", "b1", "b2", "b3", "b4"):
        assert f"keras_cv/efficientnetlite_{scale}" in names
    for layers in (18, 50):
        assert f"keras_cv/resnet{layers}" in names
        assert f"keras_hub/resnet_{layers}_imagenet" in names
    assert Counter(row.provider for row in ROWS)["keras_hub"] == 15
    assert "kderm/small_cnn" in names


def test_keras_hub_rows_whose_handles_point_at_another_model_are_left_out():
    assert not [name for name in PRESETS if re.search(r"efficientnet_e[sml]_", name)]


def test_only_the_keras_cv_rows_with_published_weights_name_a_source():
    with_weights = {row.name for row in ROWS if row.provider == "keras_cv" and row.source}
    assert with_weights == {
        "keras_cv/efficientnetv2_b0_imagenet",
        "keras_cv/efficientnetv2_b1_imagenet",
        "keras_cv/efficientnetv2_b2_imagenet",
        "keras_cv/efficientnetv2_s_imagenet",
        "keras_cv/resnet50_imagenet",
        "keras_cv/resnet50_v2_imagenet",
    }


def test_conventions_put_white_and_black_where_the_weights_expect_them():
    def ends(name, channel):
        scale, offset = INPUT_CONVENTIONS[name]
        return offset[channel], 255 * scale[channel] + offset[channel]

    assert ends("unit", 0) == pytest.approx((0, 1))
    assert ends("symmetric", 1) == pytest.approx((-1, 1))
    assert ends("symmetric_128", 1) == pytest.approx((-1, 255 / 128 - 1))
    # ImageNet's mean 0.406 and deviation 0.225 of blue, the third channel.
    assert ends("imagenet", 2) == pytest.approx((-0.406 / 0.225, (1 - 0.406) / 0.225))
    assert ends("mean_only", 2) == pytest.approx((-103.939, 255 - 103.939))
    assert ends("inside", 0) == pytest.approx((0, 255))


def test_an_unknown_name_answers_with_the_nearest_ones():
    with pytest.raises(UserError, match=r"efficientnetv2_b0_imagenet") as caught:
        find_preset("keras_cv/efficientnetv2_b0_imagnet")
    assert "Received: 'keras_cv/efficientnetv2_b0_imagnet'" in str(caught.value)


def test_a_file_preset_names_its_path():
    row = find_preset("file/some/where/net.keras")
    assert (row.provider, row.builder, row.convention) == ("file", "some/where/net.keras", "inside")
    assert find_preset("file//absolute/net.keras").builder == "/absolute/net.keras"


def test_a_file_preset_of_another_kind_is_refused():
    with pytest.raises(UserError, match=r"Expected file/PATH\.keras"):
        find_preset("file/net.h5")


def test_keras_cv_handles_equal_those_of_the_installed_library():
    from kderm.models.keras_file import import_keras_cv

    models = import_keras_cv().models
    for row in ROWS:
        if row.provider == "keras_cv" and row.source:
            metadata = getattr(models, row.builder).presets[row.name.split("/")[1]]
            assert row.source == metadata["kaggle_handle"]
            assert row.parameters == metadata["metadata"]["params"]


def test_keras_hub_handles_equal_those_of_the_installed_library():
    hub = pytest.importorskip("keras_hub")
    for row in ROWS:
        if row.provider == "keras_hub":
            metadata = getattr(hub.models, row.builder).presets[row.name.split("/")[1]]
            assert row.source == metadata["kaggle_handle"]


def test_keras_applications_sums_equal_those_of_the_installed_library():
    from keras.src.applications import efficientnet, efficientnet_v2, resnet

    sums = {f"efficientnet{key}": value for key, value in efficientnet.WEIGHTS_HASHES.items()}
    for key, value in efficientnet_v2.WEIGHTS_HASHES.items():
        sums[f"efficientnetv2{key.removeprefix('-')}"] = value
    sums |= resnet.WEIGHTS_HASHES
    for row in ROWS:
        if row.provider == "keras_applications":
            assert row.checksum == sums[row.name.split("/")[1]][1]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_builds_with_the_parameters_it_states(row):
    import keras

    from kderm.models.backbones import build_backbone

    keras.backend.clear_session()
    backbone = build_backbone(row, 64, "none")
    assert backbone.count_params() == row.parameters
    assert backbone.output_shape[0] is None
    assert len(backbone.output_shape) == 4
    modules = {type(layer).__module__.split(".")[0] for layer in backbone.layers}
    assert modules == {"keras"}
