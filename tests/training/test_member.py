from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kderm.config.schema import Config
from kderm.data.views import view_transforms
from kderm.models.forward import Forward
from kderm.run_dir import FoldDir
from kderm.training.member import predict_held_out

SIZE, FRAME = 32, (36, 40)


@pytest.fixture
def place(tmp_path):
    """A fold's folder with a member in it, steep enough that its views differ visibly."""
    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    x = keras.layers.Conv2D(4, 9, strides=8)(x)
    wide = keras.initializers.RandomNormal(stddev=0.5)
    logits = keras.layers.Dense(3, kernel_initializer=wide)(keras.layers.Flatten()(x))
    place = FoldDir(tmp_path)
    keras.Model(pixels, logits).save(place.model)
    return place


@pytest.mark.parametrize("combine", ["probability", "logit", "oof"])
def test_the_out_of_fold_table_averages_views_as_prediction_will(place, combine):
    config = Config.model_validate(
        {
            "image": {
                "size": SIZE,
                "stored_height": FRAME[0],
                "stored_aspect": FRAME[1] / FRAME[0],
            },
            "predict": {"views": "d4", "combine": combine, "batch_size": 2},
        }
    )
    assert config.image.stored_shape == FRAME
    frames = np.random.default_rng(0).integers(0, 256, (5, *FRAME, 3)).astype(np.uint8)
    data = SimpleNamespace(store=SimpleNamespace(images=frames))
    images = SimpleNamespace(held_out_metadata=None, held_out=np.array([4, 0, 2]))
    found = predict_held_out(config, data, images, place)

    member = Forward(keras.saving.load_model(place.model), FRAME, 2)
    answers = member(frames[[4, 0, 2]], view_transforms("d4", FRAME))  # (n, v, k)
    geometric = np.exp(np.log(answers).mean(axis=1))
    expected = {
        "arithmetic": answers.mean(axis=1),
        "geometric": geometric / geometric.sum(axis=1, keepdims=True),
    }
    right, wrong = (
        ("geometric", "arithmetic") if combine == "logit" else ("arithmetic", "geometric")
    )
    np.testing.assert_allclose(found, expected[right], atol=1e-5)
    assert np.abs(found - expected[wrong]).max() > 0.01
