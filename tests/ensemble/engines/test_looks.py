import keras
import numpy as np
import pytest

from kderm.data.augment import plain_colours
from kderm.data.views import VIEWS, view_transforms
from kderm.data.warp import Warp
from kderm.ensemble.engines.looks import Turn, looks, resample

SIZE = 24


def frames(shape):
    return np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(30, 30), (25, 37), (41, 28)])
@pytest.mark.parametrize("name", VIEWS)
def test_every_view_shows_the_pixels_that_the_warp_layer_cuts_out(name, shape):
    images, transforms = frames(shape), view_transforms(name, shape)
    for look, transform in zip(looks(transforms), transforms, strict=True):
        seen = look.turn.apply(resample(images, transforms[look.base], SIZE))
        same = np.tile(transform, (2, 1, 1))
        expected = keras.ops.convert_to_numpy(Warp(SIZE)(images, same, plain_colours(2)))
        np.testing.assert_allclose(seen, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "resamples"),
    [("none", 1), ("flips", 1), ("d4", 1), ("multi_scale", 3), ("multi_crop", 5)],
)
def test_views_that_mirror_one_another_share_a_resample(name, resamples):
    found = looks(view_transforms(name, (30, 40)))
    assert len({look.base for look in found}) == resamples
    assert found[0].turn == Turn()


def test_a_view_that_is_no_turn_of_another_is_not_made_from_it():
    plain = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    sheared = np.array([[1, 0.5, 0], [0, 1, 0]], np.float32)
    shifted = np.array([[1, 0, 0.1], [0, 1, 0]], np.float32)
    assert [look.base for look in looks(np.stack([plain, sheared, shifted]))] == [0, 1, 2]


def test_a_rotated_resample_is_refused():
    with pytest.raises(ValueError, match="axes are the frame's"):
        resample(frames((30, 30)), np.array([[0, 1, 0], [1, 0, 0]]), SIZE)
