"""The fused AdamW step is Keras' own, step by step."""

import keras
import numpy as np
import pytest

from kderm.training import optimizer as recipe
from kderm.training.fused_update import use_fused_update

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("the fused update exists on the torch backend only", allow_module_level=True)

SHAPES = {"kernel": (3, 3, 4, 8), "gamma": (8,), "bias": (8,), "logits": (8, 5)}
PLAIN = {
    "peak": 0.02,
    "steps": 12,
    "warmup": 0.25,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "ema": None,
    "accumulate": 1,
}
OPTIONS = {
    "plain": {},
    "without clipping": {"clip_norm": None},
    "averages": {"ema": 0.9},
    "accumulation": {"accumulate": 3, "ema": 0.8},
    "no decay": {"weight_decay": 0.0},
    "rates by layer": {"factors": {"kernel": 0.3, "gamma": 0.3, "bias": 1.0, "logits": 1.0}},
    "one cycle": {"schedule": "one_cycle"},
    "plateau": {"schedule": "plateau"},
    "loss scaling": {"scale_loss": True},
}


def weights():
    rng = np.random.default_rng(0)
    made = []
    for name, shape in SHAPES.items():
        made.append(keras.Variable(rng.normal(size=shape).astype("float32"), name=name))
    return made


def gradients(step):
    rng = np.random.default_rng(100 + step)
    size = 3.0 if step % 2 else 0.01  # above and below the limit
    return [
        torch.tensor(size * rng.normal(size=shape).astype("float32")) for shape in SHAPES.values()
    ]


def stepper(monkeypatch, options, *, fused):
    """The optimizer of the recipe and its weights, with Keras' update or the fused one."""
    with monkeypatch.context() as patch:
        if not fused:
            patch.setattr(recipe, "use_fused_update", lambda *arguments: False)
        made = recipe.build_optimizer(**{**PLAIN, **options})
    variables = weights()
    made.build(variables)
    inner = recipe.inner_optimizer(made)
    assert ("_backend_apply_gradients" in vars(inner)) == fused
    return made, variables


@pytest.mark.parametrize("name", OPTIONS)
def test_every_step_ends_where_keras_ends(name, monkeypatch):
    sides = [stepper(monkeypatch, OPTIONS[name], fused=fused) for fused in (False, True)]
    for step in range(7):
        for optimizer, variables in sides:
            optimizer.apply(gradients(step), variables)
        (stock, ours), (fused, theirs) = sides
        assert len(stock.variables) == len(fused.variables)
        pairs = [*zip(ours, theirs, strict=True)]
        pairs += zip(stock.variables, fused.variables, strict=True)
        for one, two in pairs:
            np.testing.assert_allclose(
                two.numpy(), one.numpy(), rtol=2e-5, atol=1e-6, err_msg=f"{step} {one.path}"
            )


def test_a_changed_step_count_and_rate_are_seen(monkeypatch):
    sides = [stepper(monkeypatch, {"schedule": "plateau"}, fused=fused) for fused in (False, True)]
    for optimizer, variables in sides:
        optimizer.apply(gradients(0), variables)
        recipe.set_iterations(optimizer, 500)
        optimizer.learning_rate = 0.001
        optimizer.apply(gradients(1), variables)
        assert int(optimizer.iterations.numpy()) == 501
    for one, two in zip(sides[0][1], sides[1][1], strict=True):
        np.testing.assert_allclose(two.numpy(), one.numpy(), atol=1e-6)


def test_a_gradient_that_is_no_number_reaches_the_weights_as_in_keras(monkeypatch):
    for fused in (False, True):
        optimizer, variables = stepper(monkeypatch, {}, fused=fused)
        found = gradients(0)
        found[1][0] = float("inf")
        optimizer.apply(found, variables)
        assert np.isnan(variables[0].numpy()).all()


def test_weights_in_another_memory_layout_are_updated_alike(monkeypatch):
    sides = [stepper(monkeypatch, {"ema": 0.9}, fused=True) for _ in range(2)]
    kernel = sides[1][1][0]._value
    kernel.data = kernel.data.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    for step in range(3):
        for optimizer, variables in sides:
            optimizer.apply(gradients(step), variables)
    assert not sides[1][1][0]._value.is_contiguous()
    for one, two in zip(sides[0][1], sides[1][1], strict=True):
        np.testing.assert_allclose(two.numpy(), one.numpy(), atol=1e-6)


def test_other_weights_and_other_clipping_stay_with_keras():
    assert not use_fused_update(keras.optimizers.AdamW(0.1, clipvalue=1.0))
    optimizer = keras.optimizers.AdamW(0.1)
    assert use_fused_update(optimizer)
    half = keras.Variable(np.ones(3, "float16"), dtype="float16", name="half")
    optimizer.apply([torch.ones(3, dtype=torch.float16)], [half])
    assert (half.numpy() < 1).all()


def test_an_update_is_seen_by_those_who_keep_what_they_made_of_the_weights(monkeypatch):
    optimizer, variables = stepper(monkeypatch, {}, fused=True)
    before = [variable._value._version for variable in variables]
    optimizer.apply(gradients(0), variables)
    assert all(one._value._version > old for one, old in zip(variables, before, strict=True))


def test_answers_between_epochs_are_those_of_the_weights_as_they_are():
    """Convolutions without a norm have nothing but their own weights to tell the change by."""
    from kderm.models.native.swap import use_keras_layers, use_native_graph

    inputs = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(inputs, keras.layers.Dense(2)(features))
    use_native_graph(model)
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    model.compile(recipe.build_optimizer(**PLAIN), "mse")
    found = []
    with torch.no_grad():
        found.append(model(images).numpy())
    model.fit(images, np.ones((4, 2)), epochs=3, verbose=0)
    for swap in (use_native_graph, use_keras_layers):
        swap(model)
        with torch.no_grad():
            found.append(model(images).numpy())
    assert np.abs(found[0] - found[1]).max() > 1e-3
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)
