"""Every registered view set keeps the registry's promises."""

import numpy as np
import pytest

from kderm.config.schema import PredictConfig
from kderm.data.augment import plain_transform
from kderm.data.views import VIEWS, view_rounds, view_transforms
from kderm.errors import UserError

FRAMES = [(150, 200), (64, 64), (90, 40)]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_set_has_its_count_of_different_views_and_the_plain_one_first(name, frame):
    views = view_transforms(name, frame)
    assert views.shape == (VIEWS[name].count, 2, 3)
    assert views.dtype == np.float32
    np.testing.assert_array_equal(views[0], plain_transform(frame))
    assert len(np.unique(views, axis=0)) == len(views)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", VIEWS)
def test_no_view_looks_outside_of_the_frame(name, frame):
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)]).T
    assert np.abs(view_transforms(name, frame) @ corners).max() <= 1 + 1e-6


@pytest.mark.parametrize("frame", FRAMES)
def test_corner_crops_touch_the_frames_corners(frame):
    corners = np.array([[x, y, 1] for x in (-1, 1) for y in (-1, 1)]).T
    crops = view_transforms("multi_crop", frame)[1:] @ corners
    reached = {tuple(point) for crop in crops for point in np.round(crop.T, 5)}
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} <= reached


def test_the_config_offers_exactly_the_registered_view_sets():
    assert set(PredictConfig.model_fields["views"].annotation.__args__) == set(VIEWS)


def test_an_unknown_view_set_is_answered_with_the_nearest_known():
    with pytest.raises(UserError, match="'flips'"):
        view_transforms("flip", (8, 8))


@pytest.mark.parametrize(
    ("images", "views", "sizes"),
    [
        (1, 8, [8]),
        (5, 8, [4, 4]),
        (9, 10, [3, 3, 3, 1]),
        (20, 8, [1] * 8),
        (500, 2, [1, 1]),
        (0, 8, [8]),
    ],
)
def test_views_are_shown_in_rounds_of_one_size_that_fit_a_batch(images, views, sizes):
    rounds = view_rounds(images, views, 32)
    assert [len(one) for one in rounds] == sizes
    assert [view for one in rounds for view in one] == list(range(views))
