"""What else is known of the images, joined to their predictions: given by somebody, or found."""

import numpy as np
import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.subgroups import (
    check_further,
    subgroup_report,
    with_columns,
    with_found_columns,
)
from kderm.labels import BINARY


def images(n=40):
    """n images of two classes, told apart more often than not."""
    random = np.random.default_rng(0)
    malignant = np.arange(n) % 2
    p = np.clip(0.3 + 0.4 * malignant + 0.2 * random.normal(size=n), 0, 1)
    table = pd.DataFrame({"image_id": [f"i{i:04d}" for i in range(n)], "p_malignant": p})
    table["p_benign"], table["group_id"] = 1 - p, table["image_id"]
    return make_predictions(table.assign(label=np.array(BINARY.codes)[malignant]), BINARY)


def test_further_columns_are_joined_by_image_id():
    found = images(400)
    tone = np.resize(["1.0", "2.0", "3", ""], 400)
    extra = pd.DataFrame({"image_id": found.table["image_id"][::-1], "fitspatrick": tone[::-1]})
    report = subgroup_report(with_columns(found, extra), resamples=5)
    (skin,) = (row for row in report["attributes"] if row["name"] == "skin_tone")
    levels = {row["level"]: row for row in skin["levels"]}
    assert list(levels) == ["1", "2", "3", "not recorded"]
    second = (tone == "2.0") & (found.y == 1)
    assert levels["2"]["positives"]["malignant"] == second.sum()


@pytest.mark.parametrize(
    "extra", [{"id": ["i0000"], "sex": ["male"]}, {"image_id": ["a", "a"], "sex": ["male"] * 2}]
)
def test_a_table_that_cannot_be_joined_is_refused(extra):
    with pytest.raises(UserError, match="image_id"):
        with_columns(images(20), pd.DataFrame(extra))


UNJOINABLE = {
    "no image_id": "image,is_hair\ni0000,True\n",
    "an image twice": "image_id,is_hair\ni0000,True\ni0000,False\n",
    "empty": "",
    "not text": b"\x89PNG\xff\xfe\x00",
    "ragged": 'image_id,is_hair\ni0000,True,x\ni0001\n"',
}


@pytest.mark.parametrize("content", UNJOINABLE.values(), ids=UNJOINABLE)
def test_a_broken_table_that_lies_in_the_run_costs_its_subgroups_alone(tmp_path, content):
    path = tmp_path / "quality.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found, warnings = with_found_columns(images(40), path)
    assert found.table.columns.tolist() == images(40).table.columns.tolist()
    (warning,) = warnings
    assert "quality.csv" in warning
    assert "Image quality: hair" in subgroup_report(found, resamples=5)["not_recorded"]


def test_a_table_that_lies_in_the_run_is_joined_and_one_that_does_not_is_not_missed(tmp_path):
    path = tmp_path / "quality.csv"
    assert with_found_columns(images(40), path)[1] == []
    rows = images(40).table[["image_id"]].assign(is_hair=["True", "False"] * 20)
    rows.iloc[::-1].to_csv(path, index=False)
    found, warnings = with_found_columns(images(40), path)
    assert warnings == []
    assert found.table["is_hair"].tolist() == ["True", "False"] * 20


def test_a_table_that_somebody_gave_is_refused_with_what_is_wrong_in_it():
    with pytest.raises(UserError, match=r"about\.csv with image, sex\."):
        check_further(pd.DataFrame({"image": ["a"], "sex": ["male"]}), "about.csv")
    ids = [f"i{i // 2}" for i in range(10)]
    with pytest.raises(
        UserError, match=r"about\.csv with i0, i1, i2 and 2 more, each several times"
    ):
        check_further(pd.DataFrame({"image_id": ids}), "about.csv")
