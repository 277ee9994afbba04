"""One vocabulary of body sites: every data set's spelling has one place in it."""

import os
from pathlib import Path

import pandas as pd
import pytest

from kderm.data.manifest import MISSING_WORDS
from kderm.data.sites import SITES, SPELLINGS, coarse_site

SHARED = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[3] / "shared")) / "data"
HAM10000 = SHARED / "ham10000" / "HAM10000_metadata.csv"
ISIC2019 = SHARED / "labels" / "ISIC_2019_Training_Metadata.csv"
ISIC2020 = SHARED / "labels" / "ISIC_2020_Training_GroundTruth.csv"
# PAD-UFES-20's own, which its table has in upper case.
PAD_UFES20 = (
    *("ABDOMEN", "ARM", "BACK", "CHEST", "EAR", "FACE", "FOOT", "FOREARM", "HAND", "LIP", "NECK"),
    *("NOSE", "SCALP", "THIGH"),
)


def real_words(path, column):
    """The spellings of a real table; skips where it is not there."""
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    words = pd.read_csv(path, usecols=[column])[column].dropna().unique()
    return [word for word in words if word.lower() not in MISSING_WORDS]


@pytest.mark.parametrize("source", SPELLINGS)
def test_every_spelling_of_a_source_leads_to_the_site_it_is_listed_under(source):
    for site, spellings in SPELLINGS[source].items():
        assert site in SITES
        assert [coarse_site(word) for word in spellings] == [site] * len(spellings)


@pytest.mark.parametrize("site", SITES)
def test_a_coarse_word_means_itself(site):
    assert coarse_site(site) == site


def test_case_underscores_and_further_spaces_do_not_matter():
    assert coarse_site("  Anterior_Torso ") == coarse_site("ANTERIOR  torso") == "torso"


@pytest.mark.parametrize("word", ["", "moon", "unknown", "back of the moon"])
def test_what_no_source_writes_has_no_place(word):
    assert coarse_site(word) is None


def test_pad_ufes20_has_no_spelling_without_a_place_and_none_too_many():
    assert all(coarse_site(word) for word in PAD_UFES20)
    listed = {word for words in SPELLINGS["pad_ufes20"].values() for word in words}
    assert listed == {word.lower() for word in PAD_UFES20}


@pytest.mark.parametrize(
    ("source", "path", "column"),
    [
        ("ham10000", HAM10000, "localization"),
        ("isic2019", ISIC2019, "anatom_site_general"),
        ("isic2020", ISIC2020, "anatom_site_general_challenge"),
    ],
)
def test_the_real_tables_have_the_listed_spellings_and_no_others(source, path, column):
    listed = {word for words in SPELLINGS[source].values() for word in words}
    assert set(real_words(path, column)) == listed


def test_ham10000_and_isic2019_agree_on_every_image_that_both_know():
    for path in (HAM10000, ISIC2019):
        if not path.is_file():
            pytest.skip(f"needs {path.name}")
    ham = pd.read_csv(HAM10000).set_index("image_id")["localization"]
    other = pd.read_csv(ISIC2019).set_index("image")["anatom_site_general"]
    both = pd.DataFrame({"ham": ham.map(coarse_site), "isic": other.dropna().map(coarse_site)})
    both = both.dropna()
    assert len(both) == 8329
    assert (both["ham"] == both["isic"]).all()
