import keras
import numpy as np
import pytest

from kderm.data.augment import plain_colours
from kderm.data.views import view_transforms
from kderm.data.warp import Warp
from kderm.ensemble.soup import refresh_statistics, uniform_soup
from kderm.errors import UserError
from kderm.models.forward import Forward

FRAME = (20, 24)


def member(seed, units=4):
    """A small net with batch normalisation, whose statistics are nobody's."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(units, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, keras.layers.Dense(3, name="logits")(x))


@pytest.fixture
def saved(tmp_path):
    """saved(seed, units): the path of a member."""

    def save(seed, units=4):
        path = tmp_path / f"{seed}_{units}.keras"
        member(seed, units).save(path)
        return path

    return save


def frames(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, *FRAME, 3)).astype(np.uint8)


def test_every_weight_is_the_mean_over_the_members(saved):
    paths = [saved(1), saved(2), saved(3)]
    weights = [keras.saving.load_model(path).get_weights() for path in paths]
    for found, *own in zip(uniform_soup(paths).get_weights(), *weights, strict=True):
        np.testing.assert_allclose(found, np.mean(own, axis=0), atol=1e-6)


def test_a_soup_of_equal_members_is_that_member(saved):
    path = saved(4)
    transforms = view_transforms("flips", FRAME)
    soup = Forward(uniform_soup([path] * 3), FRAME, 6)(frames(), transforms)
    alone = Forward(keras.saving.load_model(path), FRAME, 6)(frames(), transforms)
    np.testing.assert_allclose(soup, alone, atol=1e-6)


def test_members_of_other_shapes_do_not_mix(saved):
    with pytest.raises(UserError, match="one architecture"):
        uniform_soup([saved(1), saved(2, units=5)])


def test_refreshed_statistics_are_the_mean_over_the_batches(saved):
    soup = uniform_soup([saved(5), saved(6)])
    conv = keras.Model(soup.inputs, soup.get_layer("conv").output)
    plain = view_transforms("none", FRAME)[0]
    batches = [frames()[:6], frames()[6:]]
    before = [weight.copy() for weight in soup.get_layer("logits").get_weights()]
    count = refresh_statistics(soup, ((batch, None) for batch in batches), FRAME, plain)
    assert count == 1
    views = np.broadcast_to(plain, (6, 2, 3)).astype(np.float32)
    warped = [Warp(16)(one, views, plain_colours(6)) for one in batches]
    seen = [keras.ops.convert_to_numpy(conv(one)) for one in warped]
    norm = soup.get_layer("norm")
    means = np.mean([one.mean(axis=(0, 1, 2)) for one in seen], axis=0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(norm.moving_mean), means, atol=1e-5)
    variances = np.mean([one.var(axis=(0, 1, 2)) for one in seen], axis=0)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(norm.moving_variance), variances, rtol=1e-3
    )
    for now, then in zip(soup.get_layer("logits").get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert norm.momentum == 0.99
    rates = [layer.rate for layer in soup.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.5]


def test_a_model_without_batch_normalisation_is_left_alone():
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(pixels)
    model = keras.Model(pixels, keras.layers.Dense(3, name="logits")(x))
    plain = view_transforms("none", FRAME)[0]
    assert refresh_statistics(model, iter([(frames(), None)]), FRAME, plain) == 0
