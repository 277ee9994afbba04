"""Stochastic depth drops what Keras' layer would drop, and asks the device no more than once."""

import keras
import numpy as np
import pytest

from kderm.models.native.swap import use_native_graph

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("native graphs exist on the torch backend only", allow_module_level=True)

IMAGES = np.ones((64, 2, 2, 3), "float32")


def stochastic_depth(rate=0.5, dtype="float32", seed=11):
    """A model that drops whole images, as Keras runs it."""
    inputs = keras.Input((2, 2, 3), dtype=dtype)
    layer = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), seed=seed, dtype=dtype)
    return keras.Model(inputs, layer(inputs))


def state_of(model):
    return model.layers[1].seed_generator.state


def drawn(model, times=1):
    """What `times` training passes give, (times, 64, 2, 2, 3)."""
    passes = [model(IMAGES, training=True) for _ in range(times)]
    return np.stack([x.detach().to(torch.float32).numpy() for x in passes])


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_masks_and_state_are_those_of_keras_pass_after_pass(rate, dtype):
    stock, native = stochastic_depth(rate, dtype), stochastic_depth(rate, dtype)
    assert use_native_graph(native)
    expected = drawn(stock, 4)
    np.testing.assert_array_equal(drawn(native, 4), expected)
    assert rate != 0.5 or len(np.unique(expected[:, :, 0, 0, 0], axis=0)) == 4
    if 0 < rate < 1:
        np.testing.assert_array_equal(state_of(native).numpy(), state_of(stock).numpy())


def test_a_state_that_is_set_anew_is_followed():
    model = stochastic_depth()
    use_native_graph(model)
    before = state_of(model).numpy().copy()
    first = drawn(model, 2)
    state_of(model).assign(before)
    np.testing.assert_array_equal(drawn(model, 2), first)
    state_of(model).assign([7, 2**31 - 1])
    stock = stochastic_depth()
    state_of(stock).assign([7, 2**31 - 1])
    np.testing.assert_array_equal(drawn(model), drawn(stock))


def test_two_layers_with_one_generator_take_turns_as_in_keras():
    def pair():
        inputs = keras.Input((2, 2, 3))
        first, second = (
            keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), seed=5) for _ in range(2)
        )
        vars(second)["seed_generator"] = first.seed_generator
        return keras.Model(inputs, [first(inputs), second(inputs)])

    stock, native = pair(), pair()
    use_native_graph(native)
    for _ in range(2):
        ours, theirs = native(IMAGES, training=True), stock(IMAGES, training=True)
        for own, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(own.detach().numpy(), other.detach().numpy())


def test_the_state_is_read_once_and_not_again(monkeypatch):
    model = stochastic_depth()
    use_native_graph(model)
    reads, read = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda x: reads.append(1) or read(x))
    drawn(model, 3)
    assert len(reads) == 1
