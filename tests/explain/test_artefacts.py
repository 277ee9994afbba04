import numpy as np
import pytest

from kderm.explain.artefacts import SHARES, coverage, energy_shares, enlarged_mask
from kderm.explain.lesion import Places

SHAPE = (40, 40)
SEEN = np.ones(SHAPE, bool)


def mask(rows, columns):
    made = np.zeros(SHAPE, bool)
    made[rows, columns] = True
    return made


PLACES = Places(
    lesion=mask(slice(10, 30), slice(10, 30)),
    corners=mask(slice(0, 8), slice(0, 8)),
    marks=mask(slice(36, 40), slice(0, 40)),
    border=~mask(slice(3, 37), slice(3, 37)),
)


def test_evidence_on_the_lesion_raises_no_flag():
    found = energy_shares(PLACES.lesion.astype(float), PLACES, SEEN)
    assert [found[name] for name in SHARES] == [0, 0, 0, 0]
    assert found["flags"] == ""


@pytest.mark.parametrize(
    ("place", "flag"),
    [
        (PLACES.corners, "dark corners"),
        (PLACES.marks, "thin dark marks"),
        (PLACES.border, "along the border"),
        (mask(slice(32, 35), slice(10, 30)), "outside the lesion"),
    ],
)
def test_evidence_in_a_place_without_a_diagnosis_is_flagged(place, flag):
    assert flag in energy_shares(place.astype(float), PLACES, SEEN)["flags"]


def test_shares_are_of_the_positive_evidence_alone():
    evidence = PLACES.lesion * 3.0 + PLACES.corners * -5.0
    evidence[20, 35] = 3.0 * PLACES.lesion.sum()
    found = energy_shares(evidence, PLACES, SEEN)
    assert found["outside_lesion"] == pytest.approx(0.5)
    assert found["dark_corners"] == 0


def test_no_evidence_has_no_shares_and_no_lesion_no_share_outside_of_it():
    nothing = energy_shares(-np.ones(SHAPE), PLACES, SEEN)
    assert [nothing[name] for name in SHARES] == [None] * 4
    assert nothing["flags"] == ""
    bare = Places(None, PLACES.corners, PLACES.marks, PLACES.border)
    found = energy_shares(np.ones(SHAPE), bare, SEEN)
    assert found["outside_lesion"] is None
    assert found["dark_corners"] == pytest.approx(64 / 1600)


def test_a_place_that_fills_the_picture_is_not_flagged_for_its_share():
    everywhere = Places(None, ~SEEN, SEEN, SEEN)
    assert energy_shares(np.ones(SHAPE), everywhere, SEEN)["flags"] == ""


def test_evidence_spread_over_black_corners_is_flagged_however_even():
    corners = mask(slice(0, 10), slice(0, 20))
    places = Places(None, corners, ~SEEN, ~SEEN)
    assert "dark corners" in energy_shares(np.ones(SHAPE), places, SEEN)["flags"]


def test_what_no_view_saw_does_not_count():
    seen = mask(slice(0, 40), slice(10, 40))
    evidence = PLACES.corners * 9.0 + PLACES.lesion
    assert energy_shares(evidence, PLACES, seen)["dark_corners"] == 0


def test_masks_and_maps_may_have_different_resolutions():
    fine = np.kron(PLACES.lesion, np.ones((5, 5), bool)).astype(bool)
    assert coverage(fine, SHAPE) == pytest.approx(PLACES.lesion.astype(float))
    assert np.array_equal(enlarged_mask(PLACES.lesion, fine.shape), fine)
    assert coverage(mask(slice(0, 1), slice(0, 2)), (20, 20))[0, 0] == pytest.approx(0.5)
