"""Exact maps: their mean over places is the logit, whatever the pooling and the metadata."""

import keras
import numpy as np
import pytest

from kderm.explain.activation_maps import Evidence, class_activation_maps, scaled
from kderm.explain.head import linear_head
from kderm.models.classifier import GeM, MultiSampleDropout
from kderm.models.native.swap import use_native_graph

POOLINGS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "gem": GeM,
}


def member_with(pooling, *, metadata=0, image_first=True, dropout=None):
    """A head as `kderm.models.classifier` builds it, all weights drawn."""
    keras.utils.set_random_seed(4)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(6, 3, strides=4, activation="relu", name="top")(x)
    x, inputs = POOLINGS[pooling](name="pool")(x), image
    if metadata:
        known = keras.Input((metadata,))
        hidden = keras.layers.Dense(4, "relu")(known)
        pair = [x, hidden] if image_first else [hidden, x]
        x, inputs = keras.layers.Concatenate(name="image_and_metadata")(pair), [image, known]
    x = (dropout or keras.layers.Dropout(0.5, name="dropout"))(x)
    logits = keras.layers.Dense(5, name="logits", bias_initializer="random_normal")(x)
    return keras.Model(inputs, logits)


def all_classes(n, k=5):
    return np.tile(np.eye(k), (n, 1, 1))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_mean_over_places_is_the_logit_without_its_bias(pooling, pixels):
    member = member_with(pooling)
    evidence = Evidence(member, batch_size=2)
    assert evidence.exact
    maps = evidence(pixels, all_classes(len(pixels)))
    assert maps.shape == (5, 5, 8, 8)
    bias = member.get_layer("logits").get_weights()[1]
    expected = member.predict(pixels, verbose=0) - bias
    assert maps.mean(axis=(2, 3)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("image_first", [True, False])
def test_metadata_add_a_constant_and_leave_the_map_alone(image_first, pixels):
    member = member_with("avg", metadata=3, image_first=image_first)
    known = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    evidence = Evidence(member)
    assert evidence.exact
    maps = evidence(pixels, all_classes(5), known)
    assert np.array_equal(maps, evidence(pixels, all_classes(5), -known))
    black = member.predict([np.zeros_like(pixels), known], verbose=0)
    dark = evidence(np.zeros_like(pixels), all_classes(5), known).mean(axis=(2, 3))
    rest = member.predict([pixels, known], verbose=0) - maps.mean(axis=(2, 3))
    assert rest == pytest.approx(black - dark, abs=1e-5)  # the same constant for any picture


def test_dropout_over_several_masks_is_no_obstacle(pixels):
    member = member_with("avg", dropout=MultiSampleDropout(0.5, 4, name="dropout"))
    assert Evidence(member).exact


def test_with_average_pooling_exact_maps_and_grad_cam_are_one(new_member, pixels):
    member, classes = new_member(), np.array([0, 3, 6, 2, 5])
    exact = Evidence(member)(pixels, np.eye(7)[classes][:, None])[:, 0]
    by_gradient = Evidence(member, "top_relu")
    assert not by_gradient.exact
    assert by_gradient(pixels, np.eye(7)[classes][:, None])[:, 0] == pytest.approx(exact, abs=1e-3)
    assert scaled(exact) == pytest.approx(class_activation_maps(member, pixels, classes), abs=1e-5)


def test_maps_of_weighted_sums_are_the_weighted_sums_of_maps(pixels):
    evidence = Evidence(member_with("gem"))
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 2, 5))
    single = evidence(pixels, all_classes(5))
    expected = np.einsum("ntk,nkhw->nthw", weights, single)
    assert evidence(pixels, weights) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "relu"])
def test_a_head_with_an_activation_is_not_linear(activation):
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    member = keras.Model(image, keras.layers.Dense(3, activation, name="logits")(x))
    assert linear_head(member) is None


def test_a_head_that_weaves_metadata_and_image_falls_back_to_gradients(new_member, pixels):
    evidence = Evidence(new_member(metadata=4))
    assert not evidence.exact
    known = np.ones((5, 4), np.float32)
    maps = evidence(pixels, np.tile(np.eye(7)[None, :2], (5, 1, 1)), known)
    assert maps.shape == (5, 2, 8, 8)
    assert np.abs(maps[:, 0] - maps[:, 1]).max() > 0.01


def test_fast_layers_give_the_same_exact_maps_and_the_member_is_left_as_it_was(new_member, pixels):
    member = new_member()
    stock = Evidence(member)(pixels, all_classes(5, 7))
    nodes = [len(layer._inbound_nodes) for layer in member.layers]
    use_native_graph(member)
    assert Evidence(member)(pixels, all_classes(5, 7)) == pytest.approx(stock, abs=1e-4)
    assert [len(layer._inbound_nodes) for layer in member.layers] == nodes


def test_weights_of_another_shape_are_refused(new_member, pixels):
    with pytest.raises(ValueError, match=r"\(5, t, 7\).*\(5, 7\)"):
        Evidence(new_member())(pixels, np.zeros((5, 7)))


def test_no_images_give_no_maps(new_member, pixels):
    assert len(Evidence(new_member())(pixels[:0], np.zeros((0, 2, 7)))) == 0
