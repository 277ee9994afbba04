"""Each backbone family, built once: the contract of a member, and its native graph."""

import contextlib
import zipfile

import keras
import numpy as np
import pytest

from kderm.models.classifier import build_classifier, load_classifier
from kderm.models.native.swap import use_keras_layers, use_native_graph
from kderm.models.presets import PRESETS

LAYERS = keras.layers
SIZE = 64
on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="native graphs exist on the torch backend only"
)


def smallest_rows() -> list[str]:
    """The row with the fewest parameters of each provider's family."""
    best: dict[tuple, str] = {}
    for name, preset in sorted(PRESETS.items(), key=lambda item: item[1].parameters):
        best.setdefault((preset.provider, preset.family), name)
    return list(best.values())


def pixels(count):
    return np.random.default_rng(3).uniform(0, 255, (count, SIZE, SIZE, 3)).astype("float32")


def member(preset):
    """A classifier of random weights whose moving statistics fit its activations."""
    for provider in ("keras_hub", "keras_cv"):
        if preset.startswith(f"{provider}/"):
            pytest.importorskip(provider)
    keras.utils.set_random_seed(1)
    model = build_classifier(preset, SIZE, 3, weights="none", dropout=0.0)
    layers = model._flatten_layers
    norms = [layer for layer in layers() if isinstance(layer, LAYERS.BatchNormalization)]
    drops = [layer for layer in layers() if isinstance(layer, LAYERS.Dropout)]
    momenta, rates = [layer.momentum for layer in norms], [layer.rate for layer in drops]
    for layer in norms:
        layer.momentum = 0.0
    for layer in drops:
        layer.rate = 0.0
    model(pixels(8), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    for layer, rate in zip(drops, rates, strict=True):
        layer.rate = rate
    return model


def run(model, batch):
    return keras.ops.convert_to_numpy(model(batch, training=False))


def predicted(model, batch):
    return keras.ops.convert_to_numpy(model.predict_on_batch(batch))


def relative_error(expected, found):
    return np.linalg.norm(expected - found) / np.linalg.norm(expected)


@pytest.fixture(scope="module", params=smallest_rows())
def family(request):
    """The preset's name and its member."""
    return request.param, member(request.param)


def test_each_family_gives_finite_logits_and_saves_as_ordinary_keras_layers(family, tmp_path):
    name, classifier = family
    logits = run(classifier, pixels(2))
    assert logits.shape == (2, 3)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    channels = classifier.get_layer("pool").input.shape[-1]
    assert classifier.count_params() == PRESETS[name].parameters + 3 * (channels + 1)

    use_native_graph(classifier)
    classifier.save(tmp_path / "member.keras")
    with zipfile.ZipFile(tmp_path / "member.keras") as archive:
        config = archive.read("config.json").decode()
    assert "keras_cv" not in config
    assert "keras_hub" not in config
    again = load_classifier(tmp_path / "member.keras")
    assert not use_keras_layers(again)
    for ours, theirs in zip(classifier.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert relative_error(logits, run(again, pixels(2))) < 1e-5


@on_torch
def test_each_family_predicts_as_stock(family):
    _, classifier = family
    use_keras_layers(classifier)
    stock = run(classifier, pixels(4))
    assert use_native_graph(classifier)
    assert relative_error(stock, run(classifier, pixels(4))) < 1e-4
    assert relative_error(stock, predicted(classifier, pixels(4))) < 1e-4


@on_torch
def test_each_family_predicts_with_the_weights_of_the_moment(family):
    _, classifier = family
    use_native_graph(classifier)
    before = predicted(classifier, pixels(4))
    by_name = {variable.name: variable for variable in reversed(classifier.trainable_variables)}
    kernel, gamma = by_name["kernel"], by_name["gamma"]  # the first ones
    kernel.assign(kernel * 1.1)
    changed = predicted(classifier, pixels(4))
    gamma.assign(gamma * 0.9)
    again = predicted(classifier, pixels(4))
    use_keras_layers(classifier)
    use_native_graph(classifier)  # a new one has nothing from before
    np.testing.assert_array_equal(predicted(classifier, pixels(4)), again)
    gamma.assign(gamma / 0.9)
    kernel.assign(kernel / 1.1)
    assert min(relative_error(before, changed), relative_error(changed, again)) > 1e-3


@on_torch
def test_each_family_learns_as_stock(family, assert_same_step):
    _, classifier = family
    use_keras_layers(classifier)
    with smoothed(classifier):
        assert_same_step(classifier, pixels(8), training=True, tolerance=1e-4)


@on_torch
def test_nothing_of_a_family_is_left_to_keras(family):
    from kderm.models.native.operations import KerasCall
    from kderm.models.native.runner import Runner

    _, classifier = family
    steps = Runner(classifier).plan().steps
    left = [step.run.node.operation.name for step in steps if isinstance(step.run, KerasCall)]
    assert left == []


@contextlib.contextmanager
def smoothed(model):
    """SiLU in place of ReLUs: rounding that flips a ReLU changes the gradients of equal functions.

    (Against a float64 reference, Keras' own gradients of these ReLU networks are off by 1 % too.)
    """
    kinks = (keras.activations.relu, keras.activations.relu6)
    activated = [
        layer for layer in model._flatten_layers() if getattr(layer, "activation", None) in kinks
    ]
    relus = [layer for layer in model._flatten_layers() if isinstance(layer, LAYERS.ReLU)]
    before = [layer.activation for layer in activated]
    for layer in activated:
        layer.activation = keras.activations.silu
    for layer in relus:
        vars(layer)["call"] = keras.activations.silu
    yield
    for layer in relus:
        del vars(layer)["call"]
    for layer, activation in zip(activated, before, strict=True):
        layer.activation = activation


def outputs_of_a_step(model, inputs, training):
    """Outputs from the same state and seed at every call; seeds are among a model's variables."""
    before = [variable.numpy().copy() for variable in model.variables]
    keras.utils.set_random_seed(7)
    outputs = keras.ops.convert_to_numpy(model(inputs, training=training))
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    return outputs


@on_torch
@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_row_computes_the_same(preset):
    model, inputs = member(preset), pixels(8)
    for training in (False, True):
        use_keras_layers(model)
        stock = outputs_of_a_step(model, inputs, training)
        assert use_native_graph(model)
        assert relative_error(stock, outputs_of_a_step(model, inputs, training)) < 1e-3


@on_torch
@pytest.mark.slow
def test_each_family_saved_fast_computes_the_same_under_another_backend(family, tmp_path, ask):
    _, classifier = family
    use_native_graph(classifier)
    classifier.save(tmp_path / "fast.keras")
    np.save(tmp_path / "images.npy", pixels(2))
    report = ask("tensorflow", tmp_path / "images.npy", tmp_path / "fast.keras")
    assert relative_error(run(classifier, pixels(2)), np.array(report["logits"])) < 1e-4
