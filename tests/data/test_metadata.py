"""Metadata as numbers: what is not known stays apart, and training and prediction encode alike."""

import json

import numpy as np
import pandas as pd
import pytest

from kderm.data import metadata
from kderm.data.metadata import FEWEST_IMAGES, MetadataColumn, MetadataSpec, fit_metadata
from kderm.data.sites import SITES
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


def often(table, times=FEWEST_IMAGES):
    """`table` so often that its words are frequent enough to be learned."""
    return pd.concat([table] * times, ignore_index=True)


@pytest.fixture(autouse=True)
def warnings_again():
    """Each test hears the warnings that a process hears once."""
    metadata._warn_once.cache_clear()


@pytest.fixture
def spec():
    return fit_metadata(often(manifest()), COLUMNS)


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
    assert spec.columns[1:] == (
        MetadataColumn("sex", ("female", "male")),
        MetadataColumn("site", ("torso", "lower extremity")),
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
    spec = fit_metadata(often(manifest()), ("site", "age"))
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
    empty = often(manifest()).assign(age=np.nan, site="unknown")
    for column in ("age", "site"):
        with pytest.raises(UserError, match=f"'{column}'.*at least 10 images.*Received: 0"):
            fit_metadata(empty, ("sex", column))


# === The vocabulary ===


@pytest.mark.parametrize(
    "spellings",
    [
        # ISIC 2020, ISIC 2019 and 2024, HAM10000, PAD-UFES-20.
        ("torso", "posterior torso", "back", "BACK"),
        ("torso", "anterior torso", "abdomen", "ABDOMEN"),
        ("torso", "lateral torso", "trunk", "CHEST"),
        ("head/neck", "head/neck", "face", "FACE"),
        ("head/neck", "head/neck", "scalp", "NOSE"),
        ("upper extremity", "upper extremity", "hand", "FOREARM"),
        ("lower extremity", "lower extremity", "foot", "THIGH"),
        ("palms/soles", "palms/soles", "acral"),
        ("oral/genital", "oral/genital", "genital"),
    ],
)
def test_one_site_is_the_same_numbers_whatever_the_data_set_calls_it(spellings):
    everywhere = often(pd.DataFrame({"site": [*SITES, *spellings]}))
    encoded = fit_metadata(everywhere, ("site",)).encode(pd.DataFrame({"site": spellings}))
    assert encoded[0, :-1].sum() == 1
    assert (encoded == encoded[0]).all()


def test_a_member_of_one_data_set_understands_the_words_of_another():
    ham = fit_metadata(often(pd.DataFrame({"site": ["back", "face", "trunk"]})), ("site",))
    others = pd.DataFrame({"site": ["torso", "anterior torso", "NOSE", "palms/soles"]})
    assert ham.encode(others).argmax(axis=1).tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize(("images", "learned"), [(9, False), (10, True)])
def test_a_word_of_fewer_than_ten_images_counts_as_not_known(capsys, images, learned):
    rare = pd.DataFrame({"site": ["acral"] * images})
    table = pd.concat([often(pd.DataFrame({"site": ["back"]})), rare], ignore_index=True)
    spec = fit_metadata(table, ("site",))
    assert spec.columns[0].values == (("torso", "palms/soles") if learned else ("torso",))
    assert spec.known(spec.encode(rare)).all() == learned
    assert ("'acral' (9)" in capsys.readouterr().err) != learned


def test_spellings_of_one_site_are_counted_together():
    table = pd.DataFrame({"site": ["face"] * 4 + ["NOSE"] * 3 + ["head/neck"] * 3})
    assert fit_metadata(table, ("site",)).columns[0].values == ("head/neck",)


def test_an_age_that_fewer_than_ten_images_have_is_refused():
    ages = [30.0] * 9 + [np.nan] * 5
    with pytest.raises(UserError, match=r"'age'.*at least 10 .*Received: 9"):
        fit_metadata(pd.DataFrame({"age": ages}), ("age",))
    assert fit_metadata(pd.DataFrame({"age": [*ages, 0.0]}), ("age",)).width == 2


def test_spellings_that_nobody_knows_are_told_once(capsys):
    table = pd.concat([often(manifest()), often(manifest().assign(site="Moon", sex="x"), 4)])
    specs = [fit_metadata(table, COLUMNS) for _ in range(3)]
    assert specs[0] == specs[2] == fit_metadata(often(manifest()), COLUMNS)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "of 12 images the sex counts as not known" in told[0]
    assert "'x' (12)" in told[0]
    assert "'moon' (12)" in told[1]


def test_many_unknown_spellings_are_told_by_the_commonest(capsys):
    words = [f"word{number}" for number in range(20) for _ in range(number + 1)]
    fit_metadata(pd.DataFrame({"site": ["back"] * 10 + words}), ("site",))
    told = capsys.readouterr().err
    assert "of 210 images" in told
    assert "'word19' (20)" in told
    assert "'word0'" not in told
    assert "and 12 more" in told


def test_nothing_is_told_where_all_is_understood(capsys):
    fit_metadata(often(manifest()), COLUMNS)
    assert capsys.readouterr().err == ""


def test_a_table_of_foreign_words_alone_is_refused_with_those_words(capsys):
    with pytest.raises(UserError, match=r"'site'.*the same of head/neck, torso.*Received: 0"):
        fit_metadata(often(pd.DataFrame({"site": ["Rücken"]})), ("site",))
    assert "'rücken' (10)" in capsys.readouterr().err


def test_which_rows_are_held_out_and_what_they_are_labelled_changes_nothing():
    table = often(manifest()).assign(label="nv")
    shuffled = table.sample(frac=1, random_state=0).assign(label="mel")
    assert fit_metadata(table, COLUMNS) == fit_metadata(shuffled, COLUMNS)


def test_the_table_itself_keeps_the_spelling_of_its_source():
    table = often(manifest())
    before = table.copy()
    fit_metadata(table, COLUMNS).encode(table)
    pd.testing.assert_frame_equal(table, before)


def test_a_bundle_of_before_with_spellings_of_one_source_keeps_their_meaning():
    values = ["abdomen", "back", "head/neck", "unheard of"]
    old = MetadataSpec.from_dict({"columns": [{"name": "site", "values": values}]})
    table = pd.DataFrame({"site": ["Back", "abdomen", "unheard of", "head/neck", "chest"]})
    assert old.encode(table).argmax(axis=1).tolist() == [1, 0, 3, 2, 4]
