"""A native graph is the Keras graph, only faster: layer by layer, in a network, on disk."""

import json
import zipfile

import keras
import numpy as np
import pytest

from kderm.models.classifier import load_classifier
from kderm.models.native.operations import KerasCall
from kderm.models.native.swap import runs_natively, use_keras_layers, use_native_graph

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("native graphs exist on the torch backend only", allow_module_level=True)

LAYERS = keras.layers


def random_array(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def as_float(tensor):
    return tensor.detach().to(torch.float32).numpy().copy()


def of_layer(layer, *shape):
    """A model around one layer, on inputs of `shape`."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


def randomise(model, seed=5):
    """Weights that no initialiser gives, so that a forgotten gamma or bias shows."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        low, high = (0.5, 2.0) if "variance" in variable.path else (-0.5, 0.5)
        variable.assign(rng.uniform(low, high, variable.shape).astype("float32"))


# === Layers ===


CONVOLUTIONS = {
    "pointwise": LAYERS.Conv2D(6, 1, use_bias=False),
    "same, stride 1": LAYERS.Conv2D(6, 3, padding="same"),
    "same, stride 2": LAYERS.Conv2D(6, 3, strides=2, padding="same"),
    "same, even kernel": LAYERS.Conv2D(6, 4, padding="same", activation="silu"),
    "same, uneven strides": LAYERS.Conv2D(6, (3, 5), strides=(1, 2), padding="same"),
    "same, dilated": LAYERS.Conv2D(6, 3, dilation_rate=2, padding="same"),
    "valid, stride 2": LAYERS.Conv2D(6, 3, strides=2, activation="relu"),
    "groups": LAYERS.Conv2D(6, 3, groups=2, padding="same", activation="sigmoid"),
    "depthwise": LAYERS.DepthwiseConv2D(3, padding="same", use_bias=False),
    "depthwise, stride 2": LAYERS.DepthwiseConv2D(5, strides=2, padding="same"),
    "depthwise, valid, dilated": LAYERS.DepthwiseConv2D(3, dilation_rate=2, activation="silu"),
    "depthwise, two outputs each": LAYERS.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
}


@pytest.mark.parametrize("size", [(8, 9), (7, 12)], ids=["8x9", "7x12"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_gives_the_same_outputs_and_gradients(name, size, assert_same_step):
    model = of_layer(CONVOLUTIONS[name].from_config(CONVOLUTIONS[name].get_config()), *size, 4)
    randomise(model)
    assert_same_step(model, random_array(3, *size, 4), training=True, tolerance=1e-6)


NORMALISATIONS = {
    "default": LAYERS.BatchNormalization(),
    "low momentum": LAYERS.BatchNormalization(momentum=0.1, epsilon=1e-5),
    "no scale": LAYERS.BatchNormalization(scale=False),
    "no centre": LAYERS.BatchNormalization(center=False),
    "neither": LAYERS.BatchNormalization(center=False, scale=False),
    "axis 3": LAYERS.BatchNormalization(axis=3),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_normalisation_gives_the_same_outputs_gradients_and_statistics(
    name, training, assert_same_step
):
    model = of_layer(NORMALISATIONS[name].from_config(NORMALISATIONS[name].get_config()), 4, 5, 6)
    randomise(model)
    inputs = 2 + 3 * random_array(2, 4, 5, 6)
    statistics = assert_same_step(model, inputs, training=training)
    for variable in model.layers[1].non_trainable_variables:
        assert np.allclose(statistics[variable.path], variable) == (not training)


def test_moving_variance_takes_the_biased_variance_as_keras_does():
    layer = LAYERS.BatchNormalization(momentum=0.75)
    model = of_layer(layer, 1, 1, 3)
    assert use_native_graph(model)
    inputs = random_array(2, 1, 1, 3)
    model(inputs, training=True)
    expected = 0.75 + 0.25 * inputs.reshape(2, 3).var(axis=0)
    np.testing.assert_allclose(layer.moving_variance.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (9, 6), (2, 3, 4, 6)], ids=str)
def test_a_normalisation_of_other_ranks_agrees_too(shape, assert_same_step):
    model = of_layer(LAYERS.BatchNormalization(), *shape)
    randomise(model)
    assert_same_step(model, random_array(5, *shape), training=True)


def test_a_frozen_normalisation_uses_and_keeps_its_moving_statistics():
    model = of_layer(LAYERS.BatchNormalization(), 4, 4, 3)
    randomise(model)
    use_native_graph(model)
    inputs = random_array(2, 4, 4, 3)
    expected, before = as_float(model(inputs, training=False)), model.get_weights()
    model.layers[1].trainable = False
    np.testing.assert_array_equal(as_float(model(inputs, training=True)), expected)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_one_value_a_channel_trains_as_it_does_in_keras(assert_same_step):
    model = of_layer(LAYERS.BatchNormalization(), 1, 1, 3)
    randomise(model)
    assert_same_step(model, random_array(1, 1, 1, 3), training=True)


def test_a_model_with_masks_stays_with_keras():
    inputs = keras.Input((5, 3))
    outputs = LAYERS.BatchNormalization()(LAYERS.Masking()(inputs))
    assert not use_native_graph(keras.Model(inputs, outputs))


@pytest.mark.parametrize(
    "layer",
    [
        LAYERS.Conv2D(4, 3, data_format="channels_first"),
        LAYERS.DepthwiseConv2D(3, data_format="channels_first"),
        LAYERS.Conv2D(4, 3, lora_rank=2),
        LAYERS.Conv2DTranspose(4, 3),
        LAYERS.BatchNormalization(dtype="float64"),
        LAYERS.Conv2D(4, 3, activation="softmax"),
        LAYERS.ReLU(negative_slope=0.1),
    ],
    ids=lambda layer: layer.name,
)
def test_a_layer_without_an_operation_runs_as_itself(layer, assert_same_step):
    model = of_layer(layer, 6, 6, 4)
    randomise(model)
    assert_same_step(model, random_array(3, 6, 6, 4), training=True)
    use_native_graph(model)
    (step,) = vars(model)["call"].runner.plan().steps
    assert isinstance(step.run, KerasCall)


def test_an_axis_in_the_middle_agrees(assert_same_step):
    model = of_layer(LAYERS.BatchNormalization(axis=1), 4, 5, 6)
    randomise(model)
    assert_same_step(model, random_array(2, 4, 5, 6), training=True)


# === Networks ===


def small_network():
    """A network with each kind of fast layer, one of them inside a nested model."""
    inner_inputs = keras.Input((8, 8, 6))
    inner = LAYERS.DepthwiseConv2D(3, padding="same", use_bias=False)(inner_inputs)
    inner = LAYERS.ReLU(max_value=6)(LAYERS.BatchNormalization()(inner))
    block = keras.Model(inner_inputs, inner, name="block")
    inputs = keras.Input((16, 16, 3))
    x = LAYERS.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = block(LAYERS.BatchNormalization(momentum=0.9)(x))
    outputs = LAYERS.Dense(4, dtype="float32")(LAYERS.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    randomise(model)
    return model


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_dtypes_and_agrees_within_its_rounding(precision, assert_same_step):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = small_network()
    finally:
        keras.config.set_dtype_policy(previous)
    inputs = random_array(8, 16, 16, 3)
    probe = keras.Model(model.input, [layer.output for layer in model.layers[1:3]])
    dtypes = [output.dtype for output in probe(inputs)]
    assert_same_step(model, inputs, training=True, tolerance=1e-2)
    assert [output.dtype for output in probe(inputs)] == dtypes
    assert all(variable.dtype == "float32" for variable in model.weights)


def test_the_swap_keeps_weights_and_paths_and_can_be_undone():
    model = small_network()
    paths = [variable.path for variable in model.variables]
    values = [id(variable) for variable in model.variables]
    config = model.get_config()
    assert use_native_graph(model)
    assert use_native_graph(model)
    assert [variable.path for variable in model.variables] == paths
    assert [id(variable) for variable in model.variables] == values
    assert model.get_config() == config
    assert use_keras_layers(model)
    assert not use_keras_layers(model)


def test_a_step_keeps_the_kernels_in_the_layout_that_convolutions_read():
    model = small_network()
    before = [value.copy() for value in model.get_weights()]
    use_native_graph(model)
    inputs = torch.tensor(random_array(2, 16, 16, 3))
    model(inputs, training=True).sum().backward()
    (kernel,) = [one._value for one in model.layers[1].trainable_variables]
    turned = kernel.permute(3, 2, 0, 1)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert kernel.grad.stride() == kernel.stride()
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_a_clone_of_a_native_model_is_keras():
    model = small_network()
    use_native_graph(model)
    assert not runs_natively(keras.models.clone_model(model))


def test_a_stateless_call_changes_nothing():
    model = small_network()
    use_native_graph(model)
    before = model.get_weights()
    _, moved = model.stateless_call(
        model.trainable_variables,
        model.non_trainable_variables,
        torch.tensor(random_array(4, 16, 16, 3)),
        training=True,
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    paths = [variable.path for variable in model.non_trainable_variables]
    expected = dict(zip(paths, [as_float(value) for value in moved], strict=True))
    model(random_array(4, 16, 16, 3), training=True)
    for variable in model.non_trainable_variables:
        np.testing.assert_allclose(variable.numpy(), expected[variable.path], rtol=1e-5)


def test_fit_ends_where_stock_layers_end():
    weights = []
    for swap in (use_keras_layers, use_native_graph):
        model = small_network()
        swap(model)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(random_array(12, 16, 16, 3), np.arange(12) % 4, 4, 3, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for stock, fast in zip(*weights, strict=True):
        np.testing.assert_allclose(fast, stock, rtol=1e-3, atol=1e-4)


def test_a_saved_native_model_is_a_keras_model(tmp_path):
    model, inputs = small_network(), random_array(3, 16, 16, 3)
    model.save(tmp_path / "stock.keras")
    assert use_native_graph(model)
    model.save(tmp_path / "fast.keras")
    configs = []
    for name in ("stock", "fast"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            configs.append(json.loads(archive.read("config.json")))
    assert configs[0] == configs[1]
    again = load_classifier(tmp_path / "fast.keras")
    assert not use_keras_layers(again)
    expected = {variable.path: variable.numpy() for variable in model.weights}
    found = {variable.path: variable.numpy() for variable in again.weights}
    assert expected.keys() == found.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)
    np.testing.assert_allclose(as_float(again(inputs)), as_float(model(inputs)), atol=1e-5)
