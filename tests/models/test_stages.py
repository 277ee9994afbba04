"""The stages of a member: by resolution, whatever the backbone, and what follows from them."""

import keras
import numpy as np
import pytest

from kderm.models.classifier import build_classifier, load_classifier, set_backbone_trainable
from kderm.models.stages import HEAD, rate_factors, stage_of

FAMILIES = [
    "kderm/small_cnn",
    "keras_cv/efficientnetv1_b0",
    "keras_cv/efficientnetv2_b0",
    "keras_cv/resnet18",
    "keras_applications/resnet50v2",
]
SIZE = 64


@pytest.fixture(scope="module", params=FAMILIES)
def member(request):
    return build_classifier(request.param, SIZE, 3, weights="none")


@pytest.fixture
def small():
    return build_classifier("kderm/small_cnn", SIZE, 3, weights="none", metadata_width=4)


def test_each_convolution_on_a_map_stands_where_its_resolution_says(member):
    stages = stage_of(member)
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    seen = set()
    for layer in member.layers:
        if isinstance(layer, kinds) and layer.output.shape[1] > 1:
            assert layer.output.shape[1] == SIZE / 2 ** stages[layer.name], layer.name
            seen.add(stages[layer.name])
    assert seen >= {1, 2, 3, 4}
    assert {stages[layer.name] for layer in member.layers if layer.name in HEAD} == {6}


def test_squeeze_and_excite_stands_with_the_block_it_belongs_to():
    stages = stage_of(
        build_classifier("keras_applications/efficientnetb0", SIZE, 3, weights="none")
    )
    branches = {name: stage for name, stage in stages.items() if "_se_" in name}
    assert len(branches) > 16
    for name, stage in branches.items():
        block = name.split("_se_")[0]
        assert stage == stages[f"{block}_bn"], name
    assert stages["block1a_se_reduce"] == 1
    assert stages["block7a_se_reduce"] == 5


def test_an_odd_side_does_not_move_a_stage():
    even = stage_of(build_classifier("keras_cv/resnet18", 64, 3, weights="none"))
    keras.utils.clear_session()
    odd = stage_of(build_classifier("keras_cv/resnet18", 75, 3, weights="none"))
    assert list(even.values()) == list(odd.values())


def test_a_saved_member_has_the_stages_it_had(small, tmp_path):
    small.save(tmp_path / "member.keras")
    assert stage_of(load_classifier(tmp_path / "member.keras")) == stage_of(small)


def test_frozen_stages_keep_their_weights_and_statistics_while_the_rest_learns(small):
    set_backbone_trainable(small, True, frozen_stages=2)
    stages = stage_of(small)
    small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    inputs = [
        rng.uniform(0, 255, (8, SIZE, SIZE, 3)).astype("float32"),
        rng.normal(size=(8, 4)).astype("float32"),
    ]
    before = {layer.name: [w.copy() for w in layer.get_weights()] for layer in small.layers}
    small.fit(inputs, np.arange(8) % 3, verbose=0)
    for layer in small.layers:
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True):
            assert np.array_equal(old, new) == (stages[layer.name] <= 2), layer.name


def test_a_frozen_backbone_stays_frozen_whatever_the_stages(small):
    set_backbone_trainable(small, False, frozen_stages=1)
    layers = {variable.path.split("/")[0] for variable in small.trainable_variables}
    assert layers == {"metadata_hidden", "metadata_features", "logits"}
    set_backbone_trainable(small, True)
    assert all(layer.trainable for layer in small.layers)


def test_rates_fall_from_the_head_down_by_one_factor_a_stage(small):
    factors = rate_factors(small, 0.5)
    assert factors.keys() == {variable.path for variable in small.variables}
    assert factors["logits/kernel"] == factors["metadata_hidden/bias"] == 1.0
    # The head stands above stage 5, the last convolution is before the last pooling.
    assert factors["block5_conv/kernel"] == factors["block5_norm/gamma"] == 0.5**2
    assert factors["block1_conv/kernel"] == 0.5**6
    assert set(rate_factors(small, 1.0).values()) == {1.0}
