"""Maps laid back through the views: what was seen where, and the sum that must come out."""

import keras
import numpy as np
import pytest

from kderm.data.augment import plain_transform
from kderm.data.views import VIEWS, view_transforms
from kderm.explain.activation_maps import Evidence
from kderm.explain.view_maps import canvas_shape, frame_maps, lay_back, view_pixels

FRAME = (48, 64)
RED = np.tile(np.eye(2)[1], (1, 1, 1))


def red_seeker():
    """Class 1 is the mean of red; its map is the picture's red in cells of 4 pixels."""
    image = keras.Input((32, 32, 3))
    x = keras.layers.AveragePooling2D(4, name="top")(image)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    member = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    kernel = np.zeros((3, 2), "float32")
    kernel[0, 1] = 1
    member.get_layer("logits").set_weights([kernel, np.zeros(2)])
    return member


def spot(row, column):
    """A frame with a red square of 12 pixels around a place."""
    frame = np.zeros((1, *FRAME, 3), np.uint8)
    frame[0, row - 6 : row + 6, column - 6 : column + 6, 0] = 255
    return frame


def centre_of_mass(evidence):
    rows, columns = np.indices(evidence.shape)
    return (evidence * rows).sum() / evidence.sum(), (evidence * columns).sum() / evidence.sum()


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize(("row", "column"), [(14, 20), (30, 40), (24, 32)])
def test_through_every_view_set_the_map_lies_where_the_evidence_is(views, row, column):
    evidence = Evidence(red_seeker())
    found = frame_maps([evidence], spot(row, column), RED, view_transforms(views, FRAME))
    assert found.maps.shape == (1, 1, *FRAME)
    centre = centre_of_mass(np.maximum(found.maps[0, 0], 0))
    assert centre == pytest.approx((row - 0.5, column - 0.5), abs=1.2)


@pytest.mark.parametrize("views", VIEWS)
def test_each_single_view_lays_its_map_on_the_same_place(views):
    evidence, frame = Evidence(red_seeker()), spot(20, 28)
    for transform in view_transforms(views, FRAME):
        found = frame_maps([evidence], frame, RED, transform[None])
        if found.maps.max() < 50:
            continue  # a corner that does not look there
        seen_whole = found.maps[0, 0] * found.seen
        assert centre_of_mass(np.maximum(seen_whole, 0)) == pytest.approx((19.5, 27.5), abs=2.5)


def test_only_the_plain_square_is_seen_by_views_of_the_centre():
    found = frame_maps([Evidence(red_seeker())], spot(24, 32), RED, view_transforms("d4", FRAME))
    expected = np.zeros(FRAME, bool)
    expected[:, 8:56] = True
    assert np.array_equal(found.seen, expected)
    assert not found.maps[0, 0][~expected].any()


def test_corner_crops_see_the_whole_frame():
    found = frame_maps(
        [Evidence(red_seeker())], spot(24, 6), RED, view_transforms("multi_crop", FRAME)
    )
    assert found.seen.all()
    assert centre_of_mass(np.maximum(found.maps[0, 0], 0))[1] == pytest.approx(5.5, abs=1.5)


def test_evidence_that_is_everywhere_alike_stays_so():
    frame = np.full((2, *FRAME, 3), 100, np.uint8)
    weights = np.repeat(RED, 2, axis=0)
    found = frame_maps([Evidence(red_seeker())], frame, weights, view_transforms("d4", FRAME))
    assert found.maps[:, 0][:, found.seen] == pytest.approx(100, abs=1e-3)


def test_members_are_averaged_and_batches_do_not_matter(new_member):
    frames = np.random.default_rng(0).integers(0, 256, (5, *FRAME, 3)).astype(np.uint8)
    weights = np.random.default_rng(1).normal(size=(5, 2, 7))
    transforms = view_transforms("flips", FRAME)
    one, other = (new_member(seed) for seed in (1, 2))
    single = [
        frame_maps([Evidence(member)], frames, weights, transforms).maps for member in (one, other)
    ]
    pair = [Evidence(member, batch_size=2) for member in (one, other)]
    steps = []
    both = frame_maps(pair, frames, weights, transforms, progress=lambda *done: steps.append(done))
    assert both.maps == pytest.approx((single[0] + single[1]) / 2, abs=1e-4)
    assert steps == [(2, 5), (4, 5), (5, 5)]


def test_views_that_share_a_batch_come_with_their_frames_metadata():
    class Member:
        size = 32

        def __init__(self, batch_size):
            self.batch_size, self.shown = batch_size, []

        def __call__(self, pixels, weights, metadata):
            self.shown.append(len(pixels))
            return np.tile(metadata[:, :, None, None], (1, 1, 4, 4))

    frames, weights = np.zeros((2, *FRAME, 3), np.uint8), np.ones((2, 1, 2))
    known = np.array([[1.0], [2.0]], np.float32)
    for batch_size, shown in ((16, [16]), (2, [2] * 8)):
        member = Member(batch_size)
        views = view_transforms("d4", FRAME)
        found = frame_maps([member], frames, weights, views, metadata=known)
        assert member.shown == shown
        assert found.maps[:, 0, 24, 32] == pytest.approx([1, 2])


def test_the_laid_back_map_keeps_its_values_at_the_cells_centres():
    cells = np.arange(12.0).reshape(3, 4)
    identity = np.eye(2, 3)
    matrix, seen = lay_back(identity, (3, 4), (9, 12))
    back = (matrix @ cells.ravel()).reshape(9, 12)
    assert seen.all()
    assert back[1::3, 1::3] == pytest.approx(cells)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(9 * 12))


def test_a_quarter_turn_is_undone():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])  # the frame's x is the view's -y
    cells = np.random.default_rng(0).normal(size=(4, 4))
    matrix, _ = lay_back(turn, (4, 4), (4, 4))
    expected = np.empty((4, 4))
    for row in range(4):
        for column in range(4):  # frame (x, y) = (-view y, view x)
            expected[column, 3 - row] = cells[row, column]
    assert (matrix @ cells.ravel()).reshape(4, 4) == pytest.approx(expected)


def test_the_canvas_keeps_the_frames_proportions_and_is_no_finer_than_it():
    assert canvas_shape((150, 200)) == (96, 128)
    assert canvas_shape((40, 60)) == (40, 60)


def test_view_pixels_of_the_plain_view_are_the_centre_square():
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    frames[:, :, 8:40] = 200
    view = view_pixels(frames, plain_transform((32, 48)), 32)
    assert view.dtype == np.float32
    assert view[0] == pytest.approx(200, abs=0.01)


def test_one_cell_covers_all_that_the_view_saw():
    matrix, seen = lay_back(plain_transform((32, 48)), (1, 1), (32, 48))
    back = (matrix @ np.array([2.0])).reshape(32, 48)
    assert back[:, 8:40] == pytest.approx(2.0)
    assert not back[:, :8].any()
    assert seen.sum() == 32 * 32
