"""Label spaces and the maps between them: closed, in a fixed order, and true to real labels."""

import os
from itertools import permutations
from pathlib import Path

import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.label_maps import LABEL_MAPS, label_map
from kderm.labels import (
    BINARY,
    HAM10000,
    ISIC2019,
    LABEL_SPACES,
    PAD_UFES20,
    LabelSpace,
    label_space,
    plain,
)

SHARED = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "data"


def test_the_orders_of_the_registered_classes_are_frozen():
    """Each is the order of the columns of tables that are on people's disks."""
    assert {name: " ".join(space.codes) for name, space in LABEL_SPACES.items()} == {
        "ham10000": "akiec bcc bkl df mel nv vasc",
        "isic2019": "ak bcc bkl df mel nv scc vasc unk",
        "pad_ufes20": "ack bcc mel nev scc sek",
        "binary": "benign malignant",
    }


@pytest.mark.parametrize("space", LABEL_SPACES.values(), ids=LABEL_SPACES)
def test_every_spelling_of_a_registered_space_is_plain_and_leads_to_one_of_its_codes(space):
    for spelling, code in space.synonyms.items():
        assert spelling == plain(spelling)
        assert space.resolve(spelling) == code
        assert code in space.codes
    for code, name in zip(space.codes, space.names, strict=True):
        assert space.resolve(code.upper()) == space.resolve(name) == code


def test_the_nine_diagnoses_of_isic_2020_are_labels_of_isic2019():
    spellings = {
        "nevus": "nv",
        "melanoma": "mel",
        "seborrheic keratosis": "bkl",
        "lichenoid keratosis": "bkl",
        "solar lentigo": "bkl",
        "lentigo NOS": "bkl",
        "cafe-au-lait macule": "unk",
        "atypical melanocytic proliferation": "unk",
        "unknown": "unk",
    }
    assert {text: ISIC2019.resolve(text) for text in spellings} == spellings


def test_another_set_of_malignant_classes_keeps_everything_else_and_survives_json():
    space = label_space("isic2019", malignant=["mel"])
    assert space.malignant == ("mel",)
    assert (space.name, space.codes, space.names) == ("isic2019", ISIC2019.codes, ISIC2019.names)
    again = LabelSpace.from_dict(space.to_dict())
    assert again == space
    assert again.resolve("nevus") == "nv"
    assert ISIC2019.malignant == ("bcc", "mel", "scc")


def test_a_malignant_class_outside_the_space_is_refused():
    with pytest.raises(UserError, match=r"among the classes.*Received: \['melanoma'\]"):
        label_space("ham10000", malignant=["melanoma"])


def test_classes_are_refused_beside_a_registered_space():
    with pytest.raises(UserError, match=r"fixed order.*labels='ham10000'.*data\.labels=custom"):
        label_space("ham10000", classes=["nv", "mel"])


def test_custom_labels_without_classes_and_unknown_spaces_are_refused():
    with pytest.raises(UserError, match="must list the class codes"):
        label_space("custom")
    with pytest.raises(UserError, match=r"Did you mean 'isic2019'.*Received: 'isic2018'"):
        label_space("isic2018")


@pytest.mark.parametrize("row", LABEL_MAPS.values(), ids=map("-".join, LABEL_MAPS))
def test_every_map_leads_each_code_to_codes_of_the_other_space(row):
    source, target = LABEL_SPACES[row.source], LABEL_SPACES[row.target]
    assert tuple(row.targets) == source.codes
    assert {code for codes in row.targets.values() for code in codes} <= set(target.codes)
    assert set(row.reasons) <= set(source.codes)


@pytest.mark.parametrize("row", LABEL_MAPS.values(), ids=map("-".join, LABEL_MAPS))
def test_every_code_without_one_counterpart_says_why(row):
    assert set(row.undecided) <= set(row.reasons)
    # Else the code alone would be taken for an answer: a finer spelling is one, the code is none.
    assert not any(LABEL_SPACES[row.target].resolve(code) for code in row.undecided)


def test_there_is_a_map_between_all_spaces_but_out_of_binary():
    assert set(LABEL_MAPS) == {(a, b) for a, b in permutations(LABEL_SPACES, 2) if a != "binary"}
    assert label_map("binary", "ham10000") is None


def test_which_maps_are_one_to_one_is_known():
    assert [pair for pair, row in LABEL_MAPS.items() if row.one_to_one] == [
        ("pad_ufes20", "isic2019")
    ]
    assert LABEL_MAPS["ham10000", "isic2019"].undecided == ("akiec",)
    assert LABEL_MAPS["isic2019", "ham10000"].undecided == ("scc", "unk")
    assert LABEL_MAPS["ham10000", "binary"].undecided == ()
    assert not LABEL_MAPS["ham10000", "binary"].one_to_one


@pytest.mark.parametrize("space", [HAM10000, ISIC2019, PAD_UFES20], ids=lambda space: space.name)
def test_binary_calls_malignant_what_the_space_calls_malignant(space):
    to_binary = LABEL_MAPS[space.name, "binary"].targets
    malignant = {code for code, found in to_binary.items() if found == ("malignant",)}
    assert malignant == set(space.malignant)
    assert BINARY.malignant == ("malignant",)


def test_the_map_from_ham10000_holds_for_every_image_that_isic_2019_labels_anew():
    ham = DATA / "ham10000" / "HAM10000_metadata.csv"
    isic = DATA / "labels" / "ISIC_2019_Training_GroundTruth.csv"
    if not (ham.exists() and isic.exists()):
        pytest.skip(f"no HAM10000 and ISIC 2019 tables at {DATA}")
    before = pd.read_csv(ham).set_index("image_id")["dx"]
    truth = pd.read_csv(isic).set_index("image").idxmax(axis=1).str.lower()
    both = pd.DataFrame({"before": before, "after": truth}).dropna()
    assert len(both) == 10015
    targets = LABEL_MAPS["ham10000", "isic2019"].targets
    pairs = both.groupby(["before", "after"]).size()
    assert {code: set(targets[code]) for code in targets} == {
        code: set(pairs[code].index) for code in targets
    }
    # Why akiec counts as malignant: most of it is carcinoma.
    assert pairs["akiec"].to_dict() == {"ak": 130, "scc": 197}


@pytest.mark.parametrize("text", ["psoriasis", "eczema", "acne", "rosacea"])
def test_a_diagnosis_that_is_none_of_the_classes_is_near_to_none(text):
    assert HAM10000.nearest(text) == []


def test_a_class_called_malignant_is_the_malignant_class_though_nobody_says_so():
    space = label_space("custom", classes=["benign", "malignant"])
    assert space.malignant == ("malignant",)
    assert LabelSpace.from_dict(space.to_dict()) == space


@pytest.mark.parametrize(
    ("classes", "malignant", "words"),
    [
        (["benign", "malignant"], ["benign"], "must be the only malignant one"),
        (["benign", "malignant", "mel"], ["malignant", "mel"], "must be the only malignant one"),
        (["nv", "malignant_uncorrected"], [], "p_malignant_uncorrected of tables is taken"),
    ],
)
def test_a_class_whose_column_is_a_sum_over_others_is_refused(classes, malignant, words):
    with pytest.raises(UserError, match=words):
        label_space("custom", classes=classes, malignant=malignant)
