"""Metadata as numbers: what is not known stays apart, and training and prediction encode alike."""

import json

import numpy as np
import pandas as pd
import pytest

from kderm.data.metadata import MetadataSpec, fit_metadata
from kderm.errors import UserError

COLUMNS = ("age", "sex", "site")


def manifest():
    """Age 0 is an age; the second image has nothing."""
    return pd.DataFrame(
        {
            "age": [0.0, np.nan, 85.0],
            "sex": ["female", "unknown", "male"],
            "site": ["back", "unknown", "lower extremity"],
        }
    )


@pytest.fixture
def spec():
    return fit_metadata(manifest(), COLUMNS)


def test_each_column_has_its_numbers_and_one_for_not_known(spec):
    assert spec.names == COLUMNS
    assert spec.width == 2 + 3 + 3
    encoded = spec.encode(manifest())
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(
        encoded,
        [
            [-2.0, 0, 1, 0, 0, 1, 0, 0],
            [0, 1, 0, 0, 1, 0, 0, 1],
            [1.4, 0, 0, 1, 0, 0, 1, 0],
        ],
        atol=1e-6,
    )


def test_age_zero_is_an_age_and_not_the_missing_one(spec):
    newborn, nobody, _ = spec.encode(manifest())[:, :2]
    assert newborn[1] == 0
    assert nobody[1] == 1
    np.testing.assert_array_equal(
        spec.known(spec.encode(manifest())), [[True] * 3, [False] * 3, [True] * 3]
    )


def test_a_table_of_text_is_encoded_as_the_manifest_is(spec):
    text = pd.DataFrame(
        {
            "age": ["0", "", "85,0"],
            "sex": ["F", "n/a", " Male"],
            "site": ["Back ", "?", "LOWER extremity"],
        },
        dtype=str,
    )
    np.testing.assert_array_equal(spec.encode(text), spec.encode(manifest()))


def test_what_the_training_table_never_had_counts_as_not_known(spec):
    strange = pd.DataFrame({"age": ["abc", "-3"], "sex": ["x", "male"], "site": ["moon", ""]})
    np.testing.assert_array_equal(spec.known(spec.encode(strange)), [[False] * 3, [0, 1, 0]])


def test_rows_are_encoded_one_by_one(spec):
    whole = spec.encode(manifest())
    np.testing.assert_array_equal(spec.encode(manifest().iloc[2:]), whole[2:])
    assert spec.encode(manifest().iloc[:0]).shape == (0, 8)


def test_hiding_sets_whole_columns_to_not_known_by_their_share(spec):
    encoded = spec.encode(manifest().iloc[[0] * 2000])
    hidden = spec.hide(encoded, np.random.default_rng(0), 0.3)
    nothing = spec.encode(manifest().iloc[[1]])[0]
    known = spec.known(hidden)
    for start, end, column in ((0, 2, 0), (2, 5, 1), (5, 8, 2)):
        kept = known[:, column]
        assert kept.mean() == pytest.approx(0.7, abs=0.04)
        np.testing.assert_array_equal(hidden[kept, start:end], encoded[kept, start:end])
        assert (hidden[~kept, start:end] == nothing[start:end]).all()
    both = (~known[:, 0] & ~known[:, 1]).mean()
    assert both == pytest.approx(0.09, abs=0.03), "columns are hidden independently"
    assert spec.known(encoded).all(), "what came in stays"


@pytest.mark.parametrize(("share", "left"), [(0.0, 3), (1.0, 0)])
def test_nothing_or_all_can_be_hidden(spec, share, left):
    hidden = spec.hide(spec.encode(manifest()), np.random.default_rng(0), share)
    assert spec.known(hidden)[0].sum() == left


def test_hiding_more_hides_the_same_and_others(spec):
    encoded = spec.encode(manifest().iloc[[0] * 50])
    some = spec.known(spec.hide(encoded, np.random.default_rng(4), 0.2))
    more = spec.known(spec.hide(encoded, np.random.default_rng(4), 0.6))
    assert (some | ~more).all()
    assert more.sum() < some.sum()


def test_the_encoding_survives_json(spec):
    again = MetadataSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    np.testing.assert_array_equal(again.encode(manifest()), spec.encode(manifest()))


def test_columns_come_in_the_order_asked_for():
    spec = fit_metadata(manifest(), ("site", "age"))
    assert spec.names == ("site", "age")
    np.testing.assert_allclose(spec.encode(manifest())[0], [1, 0, 0, -2, 0])


@pytest.mark.parametrize(
    "column", ["dx_type", "diagnosis", "lesion_id", "tbp_lv_dnn_lesion_confidence"]
)
def test_a_column_that_gives_the_label_away_is_refused(column):
    with pytest.raises(UserError, match=rf"give the label away.*{column}"):
        fit_metadata(manifest(), ("age", column))


def test_unknown_repeated_and_empty_columns_are_refused():
    with pytest.raises(UserError, match=r"'site'.*age, sex, site"):
        fit_metadata(manifest(), ("sites",))
    with pytest.raises(UserError, match="once"):
        fit_metadata(manifest(), ("age", "age"))
    empty = manifest().assign(age=np.nan, site="unknown")
    for column in ("age", "site"):
        with pytest.raises(UserError, match=f"'{column}'.*of no image"):
            fit_metadata(empty, ("sex", column))
