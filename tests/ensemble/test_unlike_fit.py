"""The score of unlike images: how many images it is fitted on."""

from pathlib import Path

import pandas as pd

from kderm.ensemble.held_out import HeldOut
from kderm.ensemble.unlike_fit import _at_most


def part(images):
    groups = [f"g{number // 3}" for number in range(images)]
    ids = [f"im{number}" for number in range(images)]
    return HeldOut(0, Path("m"), "0", pd.DataFrame({"image_id": ids, "group_id": groups}))


def test_a_large_fold_gives_a_part_of_whole_lesions_and_always_the_same():
    chosen = _at_most(part(3000), 100).table
    assert 100 <= len(chosen) < 103
    assert (chosen["group_id"].value_counts() == 3).all()
    pd.testing.assert_frame_equal(chosen, _at_most(part(3000), 100).table)


def test_a_small_fold_gives_all_of_its_images():
    whole = part(99)
    pd.testing.assert_frame_equal(_at_most(whole, 99).table, whole.table)
