"""ISIC submission files: the exact formats, and what a scorer would refuse."""

import numpy as np
import pandas as pd
import pytest

from kderm.errors import UserError
from kderm.evaluation.submission import CHALLENGES, write_submission
from kderm.labels import BINARY, HAM10000, ISIC2019, PAD_UFES20, LabelSpace


def table(labels, n=6, seed=0):
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.dirichlet(np.ones(len(labels)), n), columns=labels.columns)
    rows.insert(0, "image_id", [f"ISIC_{number:07d}" for number in range(n, 0, -1)])
    return rows.assign(warning="")


# The headers of the challenges' own sample submissions.
HEADERS = {
    "2018": ["image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"],
    "2019": ["image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"],
    "2020": ["image_name", "target"],
    "2024": ["isic_id", "target"],
}
SPACES = {"2018": HAM10000, "2019": ISIC2019, "2020": BINARY, "2024": ISIC2019}


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_the_header_is_the_challenges_and_the_ids_are_in_order(tmp_path, challenge):
    rows = table(SPACES[challenge])
    write_submission(rows, SPACES[challenge], tmp_path / "new" / "s.csv", challenge)
    written = pd.read_csv(tmp_path / "new" / "s.csv")
    assert list(written.columns) == HEADERS[challenge]
    assert list(written.iloc[:, 0]) == sorted(rows["image_id"])


@pytest.mark.parametrize("challenge", ["2018", "2019"])
def test_each_class_goes_under_its_own_header_to_the_last_digit(tmp_path, challenge):
    labels = SPACES[challenge]
    rows = table(labels)
    write_submission(rows, labels, tmp_path / "s.csv", challenge)
    written = pd.read_csv(tmp_path / "s.csv", index_col="image")
    for code in labels.codes:
        own = rows.set_index("image_id")[f"p_{code}"]
        assert (written[code.upper()].loc[own.index] == own).all()


def test_certain_answers_stay_floating_point_as_the_scorer_demands(tmp_path):
    """isic-challenge-scoring 5.6.0 refuses a column that pandas reads as whole numbers."""
    rows = pd.DataFrame(np.eye(7, dtype=int), columns=HAM10000.columns)
    rows["image_id"] = [f"ISIC_{number:07d}" for number in range(7)]
    write_submission(rows, HAM10000, tmp_path / "s.csv", "2018")
    written = pd.read_csv(tmp_path / "s.csv").drop(columns="image")
    assert (written.dtypes == np.float64).all()


@pytest.mark.parametrize(
    ("challenge", "labels", "codes"),
    [
        ("2020", BINARY, ["malignant"]),
        ("2020", HAM10000, ["mel"]),
        ("2020", PAD_UFES20, ["mel"]),
        ("2024", BINARY, ["malignant"]),
        ("2024", HAM10000, ["akiec", "bcc", "mel"]),
        ("2024", ISIC2019, ["bcc", "mel", "scc"]),
    ],
)
def test_the_target_is_melanoma_in_2020_and_malignancy_in_2024(tmp_path, challenge, labels, codes):
    rows = table(labels)
    write_submission(rows, labels, tmp_path / "s.csv", challenge)
    written = pd.read_csv(tmp_path / "s.csv").set_index(HEADERS[challenge][0])["target"]
    expected = rows.set_index("image_id")[[f"p_{code}" for code in codes]].sum(axis=1)
    np.testing.assert_allclose(written.loc[expected.index], expected, atol=1e-12)
    assert written.between(0, 1).all()


def test_members_without_an_unknown_class_give_it_nothing(tmp_path):
    codes = tuple(code for code in ISIC2019.codes if code != "unk")
    labels = LabelSpace("custom", codes, codes, ("mel",))
    write_submission(table(labels), labels, tmp_path / "s.csv", "2019")
    written = pd.read_csv(tmp_path / "s.csv")
    assert list(written.columns) == HEADERS["2019"]
    assert (written["UNK"] == 0).all()
    assert written["UNK"].dtype == np.float64


@pytest.mark.parametrize(
    ("challenge", "labels", "message"),
    [
        ("2019", HAM10000, "no class for AK, SCC; no column for akiec"),
        ("2018", ISIC2019, "no class for AKIEC; no column for ak, scc, unk"),
        ("2018", BINARY, "no class for MEL, NV"),
        ("2024", LabelSpace("custom", ("a", "b"), ("A", "B")), "some class must be malignant"),
    ],
)
def test_a_label_space_that_does_not_answer_the_challenge_is_refused(
    tmp_path, challenge, labels, message
):
    with pytest.raises(UserError, match=message):
        write_submission(table(labels), labels, tmp_path / "s.csv", challenge)
    assert not list(tmp_path.iterdir())


def test_an_unknown_challenge_is_told_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"2018.*Received: '2017'"):
        write_submission(table(HAM10000), HAM10000, tmp_path / "s.csv", "2017")


def broken(change):
    rows = table(HAM10000)
    change(rows)
    return rows


def swap_to_logits(rows):
    rows.loc[2, "p_mel"] = 3.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.concat([table(HAM10000)] * 2), "more than one row for: ISIC_0000006"),
        (broken(lambda rows: rows.__setitem__("p_mel", np.nan)), "missing or no number"),
        (broken(swap_to_logits), r"outside \[0, 1\] for: ISIC_0000004"),
        (broken(lambda rows: rows.__setitem__("p_nv", 0.0)), "do not sum to 1"),
        (broken(lambda rows: rows.__setitem__("image_id", None)), "image_id is empty in 6 row"),
        (table(HAM10000).iloc[:0], "no image in it"),
        (table(HAM10000).drop(columns="p_df"), "Missing: p_df"),
    ],
)
def test_a_table_that_a_scorer_would_refuse_is_refused_and_nothing_is_written(
    tmp_path, rows, message
):
    with pytest.raises(UserError, match=message):
        write_submission(rows, HAM10000, tmp_path / "s.csv", "2018")
    assert not list(tmp_path.iterdir())


def test_file_names_and_ids_of_one_image_are_one_image(tmp_path):
    rows = table(HAM10000)
    rows["image_id"] = rows["image_id"] + ".JPG"
    write_submission(rows, HAM10000, tmp_path / "s.csv", "2018")
    assert pd.read_csv(tmp_path / "s.csv")["image"][0] == "ISIC_0000001"
    rows.loc[0, "image_id"] = "ISIC_0000005"
    with pytest.raises(UserError, match="more than one row for: ISIC_0000005"):
        write_submission(rows, HAM10000, tmp_path / "s.csv", "2018")
