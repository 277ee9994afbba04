"""The sanity checks find a trained net's maps faithful, and notice maps that are not."""

import keras
import numpy as np
import pytest

from kderm.explain.activation_maps import Evidence
from kderm.explain.faithfulness import check_maps, permuted_weights, perturbation_curves

SIDE = 32


def pictures(count, seed):
    """Noise with a square of lying (class 1) or standing (class 0) stripes somewhere."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, count)
    images = rng.normal(128, 20, (count, SIDE, SIDE, 3))
    stripes = np.where(np.indices((10, 10)) // 2 % 2, 45.0, -45.0)[..., None]
    for image, kind in zip(images, classes, strict=True):
        row, column = rng.integers(1, SIDE - 11, 2)
        image[row : row + 10, column : column + 10] += stripes[0 if kind else 1]
    return np.clip(images, 0, 255).astype("float32"), classes


@pytest.fixture(scope="module")
def trained():
    """A small network that tells lying stripes from standing ones."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    for filters, step in ((8, 1), (16, 2)):
        x = layers.Conv2D(filters, 3, strides=step, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    member = keras.Model(image, layers.Dense(2, name="logits")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    member.compile(keras.optimizers.Adam(0.01), loss)
    member.fit(*pictures(384, 0), batch_size=32, epochs=5, verbose=0)
    images, classes = pictures(64, 1)
    assert (member.predict(images, verbose=0).argmax(axis=1) == classes).mean() > 0.95
    return member


def test_maps_of_a_trained_net_beat_random_and_hang_on_its_weights(trained):
    images, classes = pictures(48, 2)
    found = check_maps(Evidence(trained), images, classes, np.random.default_rng(0)).mean()
    assert found["deletion"] < found["deletion_random"] - 0.05
    assert found["insertion"] > found["insertion_random"] + 0.05
    assert abs(found["rank_correlation"]) < 0.5


def test_a_map_turned_round_does_worse_than_random(trained):
    images, classes = pictures(48, 2)
    weights = (np.eye(2)[classes] - 0.5)[:, None]
    maps = Evidence(trained)(images, weights)[:, 0]
    rng = np.random.default_rng(0)
    scores = [
        perturbation_curves(trained, images, one, classes, insert=False).mean()
        for one in (maps, rng.permutation(maps.ravel()).reshape(maps.shape), -maps)
    ]
    assert scores[0] < scores[1] < scores[2]


def test_curves_go_from_the_picture_to_its_blur_and_back(trained):
    images, classes = pictures(6, 3)
    maps = np.random.default_rng(0).normal(size=(6, 8, 8))
    away = perturbation_curves(trained, images, maps, classes, insert=False, steps=4)
    back = perturbation_curves(trained, images, maps, classes, insert=True, steps=4)
    assert away.shape == (6, 5)
    logits = trained.predict(images, verbose=0).astype(float)
    sure = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert away[:, 0] == pytest.approx(sure[np.arange(6), classes], abs=1e-5)
    assert back[:, -1] == pytest.approx(away[:, 0], abs=1e-5)
    assert back[:, 0] == pytest.approx(away[:, -1], abs=1e-5)


def test_the_same_weights_give_the_same_map(trained, monkeypatch):
    """The rank correlation is 1 where nothing is permuted, so a low one means something."""
    images, classes = pictures(8, 4)

    class Nothing(np.random.Generator):
        def permutation(self, x, axis=0):
            return np.asarray(x) if np.ndim(x) else np.arange(x)

    found = check_maps(Evidence(trained), images, classes, Nothing(np.random.PCG64(0)), steps=2)
    assert found["rank_correlation"].to_numpy() == pytest.approx(1.0)


def test_permuted_weights_are_put_back_even_after_a_failure(trained):
    before = [np.array(value) for value in trained.get_weights()]
    kept = []

    def fail():
        with permuted_weights(trained, np.random.default_rng(0)):
            kept.extend(np.array(value) for value in trained.get_weights())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not np.array_equal(kept[0], before[0])
    assert np.sort(kept[0].ravel()) == pytest.approx(np.sort(before[0].ravel()))
    assert all(map(np.array_equal, trained.get_weights(), before))


def test_a_constant_map_has_no_rank_correlation(trained):
    member = keras.models.clone_model(trained)
    kernel, bias = trained.get_layer("logits").get_weights()
    member.get_layer("logits").set_weights([np.zeros_like(kernel), bias])
    found = check_maps(Evidence(member), *pictures(2, 5), np.random.default_rng(0), steps=2)
    assert found["rank_correlation"].isna().all()
