"""Layers that mean something else where channels come first, and models at their edges."""

import gc

import keras
import numpy as np
import pytest

from kderm.models.native import kernels
from kderm.models.native.gated import GatedNormalization
from kderm.models.native.operations import KerasCall
from kderm.models.native.swap import use_keras_layers, use_native_graph

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("native graphs exist on the torch backend only", allow_module_level=True)

LAYERS = keras.layers


def random_array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def model_of(build, *shape):
    """A functional model around `build`, its weights as no initialiser gives them."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, build(inputs))
    rng = np.random.default_rng(5)
    for variable in model.weights:
        low, high = (0.5, 2.0) if "variance" in variable.path else (-0.5, 0.5)
        variable.assign(rng.uniform(low, high, variable.shape).astype("float32"))
    return model


def answer(model, inputs, **kwargs):
    with torch.no_grad():
        return model(inputs, **kwargs)


def assert_predicted_alike(model, inputs):
    """The plan of prediction agrees with Keras, in dtype and shape too."""
    use_keras_layers(model)
    expected = answer(model, inputs)
    assert use_native_graph(model)
    found = answer(model, inputs)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found.float(), expected.float(), atol=1e-5)


def operations(model):
    use_native_graph(model)
    return [step.run for step in vars(model)["call"].runner.plan().steps]


# === Layers ===


def squeezed(x, filters=None, *, activation="silu"):
    """Batch normalisation, an activation, and a gate of `filters` channels behind it."""
    x = LAYERS.Activation(activation)(LAYERS.BatchNormalization()(x))
    gate = LAYERS.Reshape((1, 1, x.shape[-1]))(LAYERS.GlobalAveragePooling2D()(x))
    gate = LAYERS.Conv2D(3, 1, activation="silu")(gate)
    gate = LAYERS.Conv2D(filters or x.shape[-1], 1, activation="sigmoid")(gate)
    return LAYERS.Multiply()([x, gate])


def by_the_mean(layer):
    """A feature map and its mean (n, c), which Keras stretches to (n, 1, 1, c), in one layer."""
    return lambda x: layer([x, LAYERS.GlobalAveragePooling2D()(x)])


BUILDS = {
    "dense on a map": LAYERS.Dense(5),
    "a map and its mean, added": by_the_mean(LAYERS.Add()),
    "a map and its mean, multiplied": by_the_mean(LAYERS.Multiply()),
    "a gate of one channel": lambda x: squeezed(x, 1),
    "a gate that the kernels do not know": lambda x: squeezed(x, activation="gelu"),
    "a mean as the gate": lambda x: LAYERS.Multiply()(
        [
            (y := LAYERS.BatchNormalization()(x)),
            LAYERS.GlobalAveragePooling2D(keepdims=True)(y),
        ]
    ),
    "three of two shapes, added": lambda x: LAYERS.Add()(
        [LAYERS.Conv2D(6, 1)(x), x, LAYERS.GlobalAveragePooling2D(keepdims=True)(x)]
    ),
    "a map laid flat": lambda x: LAYERS.Reshape((1, 1, 216))(LAYERS.Conv2D(6, 1)(x)),
    "one normalisation, twice": lambda x: (norm := LAYERS.BatchNormalization(momentum=0.5))(
        LAYERS.Conv2D(6, 3, padding="same")(norm(x))
    ),
    "columns dropped": lambda x: LAYERS.Dropout(0.5, noise_shape=(None, 1, 6, 1))(
        LAYERS.Conv2D(6, 3, strides=2, padding="same")(LAYERS.UpSampling2D(2)(x))
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_a_square_map_whose_side_equals_its_channels_is_not_taken_for_another(
    name, assert_same_step
):
    build = BUILDS[name]
    if isinstance(build, LAYERS.Layer):
        build = type(build).from_config(build.get_config())
    model = model_of(build, 6, 6, 6)
    assert_same_step(model, random_array(3, 6, 6, 6), training=True)
    assert_predicted_alike(model, random_array(3, 6, 6, 6, seed=1))


def test_dropping_whole_columns_drops_those_that_keras_drops(assert_same_step):
    def build(x):
        x = LAYERS.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(x)
        return LAYERS.Dropout(0.5, noise_shape=(None, 1, 6, 1), seed=3)(x)

    model = model_of(build, 12, 12, 3)
    assert_same_step(model, random_array(3, 12, 12, 3), training=True)


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 33])
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 1, 7), (3, 5, 4), (1, 9, 9)], ids=str)
def test_a_gate_agrees_on_maps_of_all_sizes(shape, channels, assert_same_step):
    model = model_of(squeezed, *shape[1:], channels)
    assert [type(one) for one in operations(model)] == [GatedNormalization]
    assert_same_step(model, random_array(*shape, channels), training=True)
    assert_predicted_alike(model, random_array(*shape, channels, seed=1))


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16", "float64"])
def test_a_normalisation_of_another_precision_on_float32_gives_its_own_dtype(policy):
    model = model_of(LAYERS.BatchNormalization(dtype=policy), 4, 4, 3)
    inputs = random_array(2, 4, 4, 3)
    found = []
    for swap in (use_keras_layers, use_native_graph):
        swap(model)
        before = model.get_weights()
        found.append((answer(model, inputs, training=True), model.get_weights()[2:]))
        model.set_weights(before)
    (stock, moved), (fast, moved_too) = found
    assert fast.dtype == stock.dtype
    np.testing.assert_allclose(fast.float(), stock.float(), atol=2e-2)
    for one, two in zip(moved, moved_too, strict=True):
        np.testing.assert_allclose(two, one, rtol=2e-2)


# === Models ===


def network():
    """Each kind of operation that has a kernel."""

    def build(x):
        x = LAYERS.Conv2D(5, 3, strides=2, padding="same", use_bias=False)(x)
        x = LAYERS.Activation("silu")(LAYERS.BatchNormalization()(x))
        y = squeezed(LAYERS.DepthwiseConv2D(5, padding="same", use_bias=False)(x))
        y = LAYERS.BatchNormalization()(LAYERS.Conv2D(5, 1, use_bias=False)(y))
        x = LAYERS.GlobalAveragePooling2D()(LAYERS.Add()([x, y]))
        return LAYERS.Dense(4)(x)

    return model_of(build, 12, 12, 3)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("there", [True, False], ids=["kernels", "no kernels"])
def test_a_network_agrees_with_kernels_and_without(there, threads, assert_same_step, monkeypatch):
    if not there:
        monkeypatch.setattr(kernels, "library", lambda: None)
    elif not kernels.available():
        pytest.skip("needs Linux and a C++ compiler")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = network()
        for count in (4, 1):
            assert_same_step(model, random_array(count, 12, 12, 3), training=True)
            assert_predicted_alike(model, random_array(count, 12, 12, 3, seed=1))
    finally:
        torch.set_num_threads(before)


def test_no_images_have_no_answers():
    model = network()
    use_native_graph(model)
    assert answer(model, np.zeros((0, 12, 12, 3), "float32")).shape == (0, 4)


@pytest.mark.parametrize(
    "spread",
    [
        lambda x: x.double(),
        lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        lambda x: torch.cat([x, x], 2)[:, :, :12],
        lambda x: x.flip(1).flip(1),
    ],
    ids=["float64", "channels first in memory", "part of a wider map", "a copy"],
)
def test_images_of_any_memory_and_dtype_have_the_same_answers(spread):
    model, images = network(), torch.tensor(random_array(3, 12, 12, 3))
    use_native_graph(model)
    expected = answer(model, images)
    np.testing.assert_allclose(answer(model, spread(images)), expected, atol=1e-6)


def test_frozen_layers_have_no_gradient_and_the_others_have_theirs(assert_same_step):
    model = network()
    norms = [one for one in model.layers if isinstance(one, LAYERS.BatchNormalization)]
    convolutions = [one for one in model.layers if isinstance(one, LAYERS.Conv2D)]
    norms[0].trainable = norms[1].trainable = False
    assert_same_step(model, random_array(4, 12, 12, 3), training=True)
    norms[1].trainable = True
    for layer in (*convolutions, norms[0]):  # a gate that does not learn behind a norm that does
        layer.trainable = False
    assert_same_step(model, random_array(4, 12, 12, 3), training=True)


def test_what_a_step_needs_is_gone_after_it_without_a_search_for_cycles():
    model = network()
    use_native_graph(model)
    names = (
        "NormActivationBackward",
        "GatedNormActivationBackward",
        "DepthwiseConvolutionBackward",
    )

    def alive():
        kinds = {type(one).__name__ for one in gc.get_objects()}
        return [name for name in names if name in kinds]

    gc.collect()
    gc.disable()
    try:
        outputs = model(random_array(2, 12, 12, 3), training=True)
        outputs.sum().backward()
        assert alive() == [*names]
        del outputs
        assert alive() == []
    finally:
        gc.enable()


def test_layers_without_an_operation_are_left_to_keras():
    (run,) = operations(model_of(LAYERS.Dense(5), 4, 4, 3))
    assert isinstance(run, KerasCall)
    (run,) = operations(model_of(LAYERS.Dense(5), 3))
    assert not isinstance(run, KerasCall)
