"""Places in drawn frames whose truth is known."""

import numpy as np
import pytest

from kderm.explain.lesion import (
    RIM,
    dark_corners,
    find_lesion,
    find_places,
    otsu,
    thin_marks,
)

SHAPE = (120, 160)
ROWS, COLUMNS = np.indices(SHAPE)


def skin(seed=0):
    rng = np.random.default_rng(seed)
    frame = np.array([220, 170, 160]) + rng.normal(0, 3, (*SHAPE, 3))
    return frame.clip(0, 255).astype(np.uint8)


def disc(row, column, radius):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def with_lesion(row=60, column=80, radius=25):
    frame = skin()
    frame[disc(row, column, radius)] = (120, 70, 60)
    return frame


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_the_lesion_is_found_with_its_rim():
    lesion = find_lesion(with_lesion(), np.ones(SHAPE, bool), rim=0.05)
    assert overlap(lesion, disc(60, 80, 25 + 0.05 * 120)) > 0.9


def test_a_hole_in_the_lesion_belongs_to_it():
    frame = with_lesion()
    frame[disc(60, 80, 8)] = (220, 170, 160)
    assert find_lesion(frame, np.ones(SHAPE, bool))[60, 80]


def test_of_two_dark_places_the_one_near_the_centre_is_the_lesion():
    frame = with_lesion(radius=16)
    frame[disc(10, 10, 20)] = (120, 70, 60)
    lesion = find_lesion(frame, np.ones(SHAPE, bool))
    assert lesion[60, 80]
    assert not lesion[10, 10]


def test_bare_skin_has_no_lesion():
    assert find_lesion(skin(), np.ones(SHAPE, bool)) is None


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_picture_of_one_colour_has_no_lesion_and_no_marks(value):
    frame = np.full((*SHAPE, 3), value, np.uint8)
    places = find_places(frame, np.ones(SHAPE, bool))
    assert places.lesion is None
    assert not places.marks.any()
    assert places.corners.all() == (value == 0)


def test_dark_corners_are_those_that_hang_together_with_a_corner():
    frame = with_lesion(radius=12)
    field = disc(60, 80, 85)
    frame[~field] = 5
    frame[disc(60, 80, 12)] = 10  # as dark as the corners, but in the middle
    corners = dark_corners(frame)
    assert np.array_equal(corners, ~field)


def test_dark_corners_are_not_taken_for_the_lesion():
    frame = with_lesion(radius=15)
    field = disc(60, 80, 80)
    frame[~field] = 5
    places = find_places(frame, np.ones(SHAPE, bool))
    assert overlap(places.lesion, disc(60, 80, 15 + RIM * 120)) > 0.8
    assert overlap(places.corners, ~field) > 0.99


def test_the_ticks_of_a_ruler_are_marks_and_the_lesion_is_none():
    frame = with_lesion()
    ticks = (ROWS < 12) & (COLUMNS % 10 < 2)
    frame[ticks] = 30
    places = find_places(frame, np.ones(SHAPE, bool))
    assert overlap(places.marks, ticks) > 0.8


def test_a_wide_dark_place_is_no_thin_mark():
    frame = with_lesion()
    assert thin_marks(frame)[disc(60, 80, 20)].mean() < 0.01


def test_the_border_runs_along_what_is_seen():
    seen = np.zeros(SHAPE, bool)
    seen[:, 20:140] = True
    border = find_places(with_lesion(), seen).border
    assert border[0, 80]
    assert border[60, 20]
    assert not border[60, 10]
    assert not border[60, 80]


def test_a_coarse_map_gets_a_wide_rim():
    seen = np.ones(SHAPE, bool)
    fine = find_places(with_lesion(), seen, 0.01).lesion
    coarse = find_places(with_lesion(), seen, 0.25).lesion
    assert coarse[60, 80 - 25 - 12]
    assert not fine[60, 80 - 25 - 12]


def test_otsus_threshold_parts_two_clusters_where_the_variance_says():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(60, 8, 3000), rng.normal(180, 12, 1000)]).clip(0, 255)

    def between(threshold):
        low, high = values[values < threshold], values[values >= threshold]
        if not len(low) or not len(high):
            return -1.0
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(between(threshold) for threshold in range(256))
    found = otsu(values)
    assert 80 < found < 160
    assert between(found) == pytest.approx(best, rel=1e-3)


def test_otsu_of_two_far_values_lies_between_them():
    assert 50 < otsu(np.array([50.0] * 5 + [200.0] * 5)) < 200
