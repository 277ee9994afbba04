"""Maps against oracles that take no gradient: algebra, finite differences, a planted square."""

import keras
import numpy as np
import pytest

from kderm.errors import UserError
from kderm.explain.activation_maps import class_activation_maps, feature_layers
from kderm.models.native.swap import use_keras_layers, use_native_graph

CLASSES = np.array([0, 3, 6, 2, 5])


def features_at(member, pixels, layer):
    inputs = member.inputs[0] if len(member.inputs) == 1 else member.inputs
    return keras.Model(inputs, member.get_layer(layer).output).predict(pixels, verbose=0)


def scaled(maps):
    maps = np.maximum(maps, 0)
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def test_with_average_pooling_the_map_is_the_weighted_sum_of_the_features(new_member, pixels):
    member = new_member()
    kernel = member.get_layer("logits").get_weights()[0]  # (c, k)
    features = features_at(member, pixels, "top_relu")
    expected = scaled(np.einsum("nhwc,cn->nhw", features, kernel[:, CLASSES]))
    found = class_activation_maps(member, pixels, CLASSES)
    assert found.dtype == np.float32
    assert found.shape == (5, 8, 8)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("norm", ["stem_bn", "branch_bn", "top_bn"])
def test_a_layer_inside_weighs_channels_by_what_shifting_them_does_to_the_logit(
    new_member, pixels, norm
):
    member = new_member()
    features = features_at(member, pixels, norm)
    layer, step = member.get_layer(norm), 1e-2
    gamma, beta, mean, variance = layer.get_weights()

    def logits(shift):
        layer.set_weights([gamma, beta + shift, mean, variance])
        answer = member.predict(pixels, verbose=0).astype(np.float64)
        return answer[np.arange(len(pixels)), CLASSES]

    # Beta shifts a channel everywhere, so the logit moves by the sum of the gradient over places.
    weights = np.stack(
        [
            (logits(step * one) - logits(-step * one)) / (2 * step)
            for one in np.eye(len(beta), dtype=np.float32)
        ],
        axis=1,
    )
    layer.set_weights([gamma, beta, mean, variance])
    expected = scaled(np.einsum("nhwc,nc->nhw", features, weights))
    found = class_activation_maps(member, pixels, CLASSES, layer=norm)
    # Finite differences of a network with kinks are not exact.
    assert found == pytest.approx(expected, abs=0.03)


def planted(kind):
    """A network whose class 1 is the amount of red, with no other sense."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(2, 4, strides=4, name="top")(image)
    x = kind(name="pool")(x)
    member = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    kernel = np.zeros((4, 4, 3, 2), "float32")
    kernel[..., 0, 0], kernel[..., 2, 1] = 1 / 16, 1 / 16
    member.get_layer("top").set_weights([kernel, np.zeros(2, "float32")])
    member.get_layer("logits").set_weights([np.eye(2, dtype="float32")[::-1], np.zeros(2)])
    return member


@pytest.mark.parametrize(
    "pooling", [keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D]
)
def test_the_map_is_highest_where_the_evidence_was_planted(pooling):
    images = np.zeros((2, 32, 32, 3), "float32")
    images[0, 4:8, 20:24, 0] = 255
    images[1, 28:32, 0:4, 0] = 200
    maps = class_activation_maps(planted(pooling), images, np.array([1, 1]))
    for evidence, place in zip(maps, [(1, 5), (7, 0)], strict=True):
        assert np.unravel_index(evidence.argmax(), evidence.shape) == place
        assert evidence.max() == 1
        assert (evidence > 0).sum() == 1


def test_a_map_without_positive_evidence_stays_zero():
    images = np.zeros((1, 32, 32, 3), "float32")
    images[..., 0] = 255  # red only; class 0 asks for blue
    member = planted(keras.layers.GlobalAveragePooling2D)
    assert not class_activation_maps(member, images, np.array([0])).any()


def test_maps_do_not_depend_on_the_batch(new_member, pixels):
    member = new_member()
    whole = class_activation_maps(member, pixels, CLASSES, layer="join", batch_size=16)
    parts = class_activation_maps(member, pixels, CLASSES, layer="join", batch_size=2)
    assert parts == pytest.approx(whole, abs=1e-5)
    assert ((whole >= 0) & (whole <= 1)).all()


def test_no_images_give_no_maps(new_member, pixels):
    assert len(class_activation_maps(new_member(), pixels[:0], CLASSES[:0])) == 0


@pytest.mark.parametrize("layer", [None, "stem_bn", "branch", "join"])
def test_fast_layers_give_the_same_maps_and_stay_fast(new_member, pixels, layer):
    member = new_member()
    stock = class_activation_maps(member, pixels, CLASSES, layer=layer)
    fast = use_native_graph(member)
    assert class_activation_maps(member, pixels, CLASSES, layer=layer) == pytest.approx(
        stock, abs=1e-5
    )
    assert use_keras_layers(member) == fast


def test_a_member_is_left_as_it_was(new_member, pixels):
    member = new_member()
    before = member.predict(pixels, verbose=0)
    weights = [value.copy() for value in member.get_weights()]
    nodes = [len(layer._inbound_nodes) for layer in member.layers]
    class_activation_maps(member, pixels, CLASSES)
    class_activation_maps(member, pixels, CLASSES, layer="branch_bn")
    assert [len(layer._inbound_nodes) for layer in member.layers] == nodes
    assert all(map(np.array_equal, member.get_weights(), weights))
    assert np.array_equal(member.predict(pixels, verbose=0), before)


def test_a_failing_forward_pass_leaves_no_trace(new_member, pixels):
    import torch

    member = new_member()
    with pytest.raises(Exception, match=r"incompatible|shape"):
        class_activation_maps(member, pixels[:, :20], CLASSES)
    assert torch.is_grad_enabled()
    assert "call" not in member.get_layer("pool").__dict__


def test_gradients_are_off_again_where_they_were_off(new_member, pixels):
    import torch

    member = new_member()
    with torch.no_grad():
        found = class_activation_maps(member, pixels, CLASSES)
        assert not torch.is_grad_enabled()
    assert found.any()
    assert all(variable.value.grad is None for variable in member.trainable_variables)


def test_frozen_members_have_maps_too(new_member, pixels):
    member = new_member()
    free = class_activation_maps(member, pixels, CLASSES, layer="stem_bn")
    member.trainable = False
    assert np.array_equal(class_activation_maps(member, pixels, CLASSES, layer="stem_bn"), free)


def test_metadata_reach_the_map(new_member, pixels):
    member = new_member(metadata=4)
    known = np.random.default_rng(0).normal(size=(5, 4)).astype("float32") * 3
    found = class_activation_maps(member, pixels, CLASSES, metadata=known, batch_size=2)
    other = class_activation_maps(member, pixels, CLASSES, metadata=-known)
    assert found.shape == (5, 8, 8)
    assert not np.allclose(found, other, atol=1e-3)
    alone = class_activation_maps(member, pixels[3:4], CLASSES[3:4], metadata=known[3:4])
    assert alone == pytest.approx(found[3:4], abs=1e-5)


def test_metadata_that_do_not_fit_are_refused(new_member, pixels):
    with pytest.raises(UserError, match=r"\(5, 4\).*Received: none"):
        class_activation_maps(new_member(metadata=4), pixels, CLASSES)
    with pytest.raises(UserError, match=r"no metadata.*\(5, 2\)"):
        class_activation_maps(new_member(), pixels, CLASSES, metadata=np.zeros((5, 2)))


def test_an_unknown_layer_is_told_with_the_nearest_ones(new_member, pixels):
    with pytest.raises(UserError, match=r"'branch_bn'.*Received: 'brnch_bn'"):
        class_activation_maps(new_member(), pixels, CLASSES, layer="brnch_bn")


def test_a_layer_without_a_feature_map_is_refused_with_those_that_have_one(new_member, pixels):
    with pytest.raises(UserError, match=r"'logits'.*top_relu"):
        class_activation_maps(new_member(), pixels, CLASSES, layer="logits")


def test_a_model_without_the_pooling_layer_asks_for_a_name(pixels):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, name="features")(image)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    member = keras.Model(image, keras.layers.Dense(7)(x))
    with pytest.raises(UserError, match=r"'pool'.*features"):
        class_activation_maps(member, pixels, CLASSES)
    assert class_activation_maps(member, pixels, CLASSES, layer="features").shape == (5, 30, 30)


@pytest.mark.parametrize("classes", [[0, 1, 2, 3, 7], [0, 1, 2, 3, -1], [0, 1], [0.0] * 5])
def test_classes_that_do_not_fit_are_refused(new_member, pixels, classes):
    with pytest.raises(UserError, match="5 whole numbers from 0 to 6"):
        class_activation_maps(new_member(), pixels, np.array(classes))


def test_feature_layers_are_those_with_an_output_of_places_and_channels(new_member):
    assert feature_layers(new_member()) == [
        *("preprocess", "stem", "stem_bn", "stem_relu", "branch", "branch_bn", "join"),
        *("top", "top_bn", "top_relu"),
    ]
