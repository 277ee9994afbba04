"""Folds: no leak, every class everywhere it can be, frozen tables that cannot be changed unseen."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kderm.data.datasets import read_dataset
from kderm.data.folds import (
    class_table,
    group_ids,
    leaked_images,
    make_folds,
    read_duplicates,
    read_folds,
    write_folds,
)
from kderm.data.grouping import deal_groups
from kderm.data.manifest import build_manifest
from kderm.errors import UserError
from kderm.labels import BINARY, HAM10000, LabelSpace

REPOSITORY = Path(__file__).parents[2]
HAM_FOLDS = REPOSITORY / "cv_folds" / "ham10000_k5_seed42.csv"
HAM_DUPLICATES = REPOSITORY / "cv_folds" / "ham10000_duplicates.csv"
DATA = Path(os.environ.get("KDERM_DATA", REPOSITORY.parent / "shared")) / "data" / "ham10000"


def images(*rows: tuple[str, str | None, str | None], label: str = "nv") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image_id", "lesion_id", "patient_id"]).assign(label=label)


def random_table(seed: int, lesions: int = 200, patients: int = 0) -> pd.DataFrame:
    """A table with HAM10000's imbalance; with patients, labels within a group are mixed."""
    rng = np.random.default_rng(seed)
    shares = np.array([327, 514, 1099, 115, 1113, 6705, 142]) / 10015
    labels = rng.choice(HAM10000.codes, size=lesions, p=shares)
    looks = rng.integers(1, 5, size=lesions)
    table = pd.DataFrame(
        {
            "lesion_id": np.repeat([f"L{i}" for i in range(lesions)], looks),
            "label": np.repeat(labels, looks),
            "patient_id": None,
        }
    )
    if patients:
        table["patient_id"] = np.repeat(rng.integers(patients, size=lesions), looks).astype(str)
    table["image_id"] = [f"I{i:05d}" for i in rng.permutation(len(table))]
    return table


# --- Groups ---


def test_a_group_is_joined_by_lesion_patient_and_duplicates_in_any_chain():
    table = images(
        ("a", "L1", None),
        ("b", "L1", "P1"),
        ("c", None, "P1"),
        ("d", None, None),
        ("e", "L2", None),
    )
    assert group_ids(table).tolist() == ["L1", "L1", "L1", "d", "L2"]
    assert group_ids(table, [("d", "c")]).tolist() == ["L1", "L1", "L1", "L1", "L2"]


@pytest.mark.parametrize("missing", [None, "", np.nan])
def test_missing_ids_join_nothing(missing):
    table = images(("a", missing, missing), ("b", missing, missing))
    assert group_ids(table).tolist() == ["a", "b"]


def test_duplicates_are_joined_through_an_image_that_the_table_does_not_have():
    table = images(("a", None, None), ("b", None, None), ("c", None, None))
    assert group_ids(table, [("a", "gone"), ("gone", "b")]).tolist() == ["a", "a", "c"]


def test_group_names_do_not_depend_on_the_row_order_or_index():
    table = random_table(0, patients=60)
    duplicates = [("I00000", "I00007"), ("I00001", "I00002")]
    straight = pd.Series(group_ids(table, duplicates).to_numpy(), index=table["image_id"])
    mixed = table.sample(frac=1, random_state=1)
    again = pd.Series(group_ids(mixed, duplicates).to_numpy(), index=mixed["image_id"])
    assert again.sort_index().equals(straight.sort_index())


def test_a_lesion_named_like_an_image_of_another_group_keeps_the_two_apart():
    table = images(("a", "b", None), ("b", None, None), ("c", "b", None))
    groups = group_ids(table)
    assert groups[0] == groups[2]
    assert groups[0] != groups[1]


# --- Making folds ---


@pytest.mark.parametrize("patients", [0, 80])
@pytest.mark.parametrize("k", [2, 5, 10])
def test_no_group_crosses_and_every_class_with_enough_groups_is_in_every_fold(patients, k):
    for seed in range(6):
        table = random_table(seed, patients=patients)
        folds = make_folds(table, HAM10000, k, seed)
        assert (folds.table.groupby("group_id")["fold"].nunique() == 1).all()
        enough = folds.table.groupby("label")["group_id"].nunique() >= k
        counts = class_table(folds).drop(columns="total")
        assert (counts.loc[enough.index[enough]] > 0).all().all()


def test_classes_and_sizes_are_balanced():
    folds = make_folds(random_table(3, lesions=2000), HAM10000, 5, 0)
    counts = class_table(folds).drop(columns="total")
    spread = counts.max(axis=1) - counts.min(axis=1)
    assert spread.max() <= 2


def test_patients_with_mixed_labels_are_balanced_within_a_tenth():
    folds = make_folds(random_table(3, lesions=3000, patients=900), HAM10000, 5, 0)
    counts = class_table(folds).drop(columns="total").loc[["nv", "mel", "bkl", "all"]]
    assert ((counts.max(axis=1) - counts.min(axis=1)) / counts.mean(axis=1) < 0.1).all()


def test_folds_depend_on_the_seed_and_not_on_the_row_order():
    table = random_table(1)
    first = make_folds(table, HAM10000, 5, 42)
    again = make_folds(table.sample(frac=1, random_state=5), HAM10000, 5, 42)
    other = make_folds(table, HAM10000, 5, 43)
    assert again.table.equals(first.table)
    assert again.digest == first.digest
    assert other.digest != first.digest


def test_the_split_of_a_small_table_is_the_same_on_every_machine():
    rows = [(f"I{n}", f"L{n // 2}", f"P{n // 5}" if n < 10 else None) for n in range(24)]
    table = images(*rows).assign(label=["nv", "nv", "mel", "mel", "nv", "nv"] * 4)
    assert make_folds(table, HAM10000, 3, 7).digest == (
        "59d64aa81ec7d4a9e61becf8ebd60eea2685accde6aaa3b18d66f2a87ac4e522"
    )


def test_listed_duplicates_share_a_fold():
    table = random_table(2)
    before = make_folds(table, HAM10000, 5, 0).table.set_index("image_id")
    apart = before.index[before["fold"] != before["fold"].iloc[0]][0]
    pair = (before.index[0], apart)
    after = make_folds(table, HAM10000, 5, 0, [pair]).table.set_index("image_id")
    assert after.loc[pair[0], "fold"] == after.loc[pair[1], "fold"]


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(UserError, match=r"at least 5 groups.*2 groups of 3 images"):
        make_folds(images(("a", "L1", None), ("b", "L1", None), ("c", None, None)), HAM10000, 5, 0)


def test_the_repair_swaps_groups_where_a_move_would_rob_another_class():
    # Two folds, four groups: only AB|AB-like pairings give both folds all of A, B and C.
    counts = np.array([[9, 1, 0], [0, 0, 5], [9, 0, 5], [0, 1, 0]])
    folds = deal_groups(counts, ["a", "b", "c", "d"], 2)
    filled = np.stack([counts[folds == fold].sum(axis=0) for fold in (0, 1)])
    assert (filled > 0).all()


def test_no_fold_is_empty_even_with_as_many_groups_as_folds():
    counts = np.array([[50, 1], [1, 0], [1, 0], [0, 1], [1, 0]])
    assert sorted(deal_groups(counts, list("abcde"), 5)) == [0, 1, 2, 3, 4]


def test_the_class_table_lists_absent_classes_and_totals():
    folds = make_folds(images(*((f"i{n}", None, None) for n in range(6))), HAM10000, 3, 0)
    counts = class_table(folds)
    assert counts.index.tolist() == [*HAM10000.codes, "all"]
    assert counts.columns.tolist() == ["fold 0", "fold 1", "fold 2", "total"]
    assert counts.loc["mel"].tolist() == [0, 0, 0, 0]
    assert counts.loc["all"].tolist() == [2, 2, 2, 6]


def test_an_image_level_split_leaks_nothing_from_lesions_with_one_image():
    table = images(*((f"i{n}", None, None) for n in range(40)))
    assert leaked_images(make_folds(table, HAM10000, 5, 0)) == 0


def test_an_image_level_split_leaks_most_images_of_large_groups():
    table = images(*((f"i{n}", f"L{n // 8}", None) for n in range(80)))
    assert leaked_images(make_folds(table, HAM10000, 5, 0)) == 80


# --- Frozen tables ---


@pytest.fixture
def frozen(tmp_path):
    table = random_table(4)
    folds = make_folds(table, HAM10000, 5, 42)
    write_folds(tmp_path / "folds.csv", folds, "a test, by hand")
    return tmp_path / "folds.csv", table, folds


def edit(path: Path, change) -> None:
    """Change the rows of a frozen table and give it a header that fits them."""
    head = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    rows = pd.read_csv(path, skiprows=len(head), dtype={"image_id": str})
    from kderm.data.folds import FoldTable

    write_folds(path, FoldTable(change(rows), 5, 42, HAM10000), "a test, changed")


def test_a_frozen_table_reads_back_the_same(frozen):
    path, table, folds = frozen
    again = read_folds(path, table.sample(frac=1, random_state=0), HAM10000)
    pd.testing.assert_frame_equal(again.table, folds.table)
    assert (again.k, again.seed, again.digest) == (5, 42, folds.digest)
    assert again.absent == 0
    assert '"made_by": "a test, by hand"' in path.read_text()


def test_a_changed_row_is_refused_by_the_digest(frozen):
    path, table, _ = frozen
    text = path.read_text().splitlines()
    fold = int(text[-1][-1])
    path.write_text("\n".join([*text[:-1], text[-1][:-1] + str((fold + 1) % 5)]) + "\n")
    with pytest.raises(UserError, match=r"was changed after it was written.*digest"):
        read_folds(path, table, HAM10000)


def test_a_group_in_two_folds_is_refused_with_the_group_and_its_images(frozen):
    path, table, folds = frozen
    sizes = folds.table["group_id"].value_counts()
    group = sizes.index[0]
    victim = folds.table.loc[folds.table["group_id"] == group, "image_id"].iloc[0]

    def move(rows):
        rows.loc[rows["image_id"] == victim, "fold"] = (rows["fold"] + 1) % 5
        return rows

    edit(path, move)
    with pytest.raises(UserError, match=rf"(?s)every group.*group {group}: .*{victim} in fold"):
        read_folds(path, table, HAM10000)


def test_a_group_that_only_the_manifest_knows_is_refused_when_it_crosses(frozen):
    path, table, folds = frozen
    by_id = folds.table.set_index("image_id")["fold"]
    a, b = by_id.index[by_id == 0][0], by_id.index[by_id == 1][0]
    with pytest.raises(UserError, match=rf"(?s)in two or more.*{a} in fold 0.*{b} in fold 1"):
        read_folds(path, table, HAM10000, duplicates=[(a, b)])
    table.loc[table["image_id"].isin([a, b]), "patient_id"] = "P1"
    with pytest.raises(UserError, match=rf"{a} in fold 0"):
        read_folds(path, table, HAM10000)


def test_images_without_a_fold_are_refused_with_their_ids(frozen):
    path, table, _ = frozen
    more = pd.concat([table, images(("NEW_1", None, None), ("NEW_2", None, None))])
    with pytest.raises(UserError, match=r"received none for 2: NEW_1, NEW_2"):
        read_folds(path, more, HAM10000)


def test_other_labels_than_the_manifest_are_refused_with_their_ids(frozen):
    path, table, _ = frozen
    row = table.index[0]
    table.loc[row, "label"] = "df" if table.loc[row, "label"] != "df" else "nv"
    with pytest.raises(UserError, match=f"other labels for 1: {table.loc[row, 'image_id']}"):
        read_folds(path, table, HAM10000)


def test_images_that_the_manifest_lacks_are_left_out_and_counted(frozen):
    path, table, folds = frozen
    again = read_folds(path, table.iloc[3:], HAM10000)
    assert again.absent == 3
    assert set(again.table["image_id"]) == set(table["image_id"].iloc[3:])
    whole = folds.table.set_index("image_id")["fold"]
    assert (again.table.set_index("image_id")["fold"] == whole[again.table["image_id"]]).all()


def test_a_repeated_image_is_refused_with_its_id(frozen):
    path, table, _ = frozen
    edit(path, lambda rows: pd.concat([rows, rows.iloc[:1]]))
    with pytest.raises(UserError, match=r"more than once 1: I00000"):
        read_folds(path, table, HAM10000)


def test_folds_of_another_label_space_are_refused(frozen):
    path, table, _ = frozen
    with pytest.raises(UserError, match=r"classes benign, malignant.*is for akiec"):
        read_folds(path, table, BINARY)


@pytest.mark.parametrize(
    "text",
    [
        "image_id,group_id,label,fold\na,a,nv,0\n",
        '# {"format": "kderm folds 9"}\nimage_id,group_id,label,fold\na,a,nv,0\n',
        "# not json\nimage_id,group_id,label,fold\n",
        '# {"format": "kderm folds 1", "k": 5, "seed": 1, "classes": [], "digest": ""}\na,b\n1,2\n',
        '# {"format": "kderm folds 1", "k": 2, "seed": 1, "classes": [], "digest": ""}\n'
        "image_id,group_id,label,fold\na,a,nv,2\n",
    ],
)
def test_a_file_that_is_no_fold_table_is_refused(text, tmp_path):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(UserError, match=r"Expected a fold table at"):
        read_folds(tmp_path / "f.csv", images(("a", None, None)), HAM10000)


def test_a_missing_fold_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"Expected a fold table at"):
        read_folds(tmp_path / "f.csv", images(("a", None, None)), HAM10000)


def test_ids_that_look_like_numbers_or_nothing_survive_the_file(tmp_path):
    table = images(
        ("0012", None, None), ("nan", None, None), ("a,b", "NA", None), ("1e5", "", None)
    )
    folds = make_folds(table, HAM10000, 2, 0)
    write_folds(tmp_path / "f.csv", folds, "a test")
    pd.testing.assert_frame_equal(
        read_folds(tmp_path / "f.csv", table, HAM10000).table, folds.table
    )


def test_duplicates_are_read_as_pairs_of_ids_without_suffix(tmp_path):
    (tmp_path / "d.csv").write_text("image_name_1,image_name_2\na.jpg,b\nc,d\n")
    assert read_duplicates(tmp_path / "d.csv") == [("a", "b"), ("c", "d")]


def test_a_listed_id_that_holds_a_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "d.csv").write_text("one,two\nmel/1,nv/1\nimages/x.jpg,y\n")
    known = ["mel/1", "nv/1", "x", "y"]
    assert read_duplicates(tmp_path / "d.csv", known) == [("mel/1", "nv/1"), ("x", "y")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ISIC_0024777,ISIC_0029938\na,b\n", "header line and two columns"),
        ("image_id\na\n", "header line and two columns"),
        ("one,two\na,b\nc,\nd\n", "incomplete rows: 3, 4"),
    ],
)
def test_a_bad_list_of_duplicates_says_what_is_expected(text, message, tmp_path):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_duplicates(tmp_path / "d.csv")


# --- HAM10000 ---


def test_the_committed_ham10000_folds_are_whole_and_leak_free():
    lines = HAM_FOLDS.read_text().splitlines()
    head = sum(line.startswith("# ") for line in lines)
    rows = pd.read_csv(HAM_FOLDS, skiprows=head)
    assert len(rows) == 10015
    assert (rows.groupby("group_id")["fold"].nunique() == 1).all()
    lesions = rows.assign(lesion_id=rows["group_id"], patient_id=None)
    folds = read_folds(HAM_FOLDS, lesions, HAM10000, read_duplicates(HAM_DUPLICATES))
    counts = class_table(folds)
    totals = dict(akiec=327, bcc=514, bkl=1099, df=115, mel=1113, nv=6705, vasc=142, all=10015)
    assert counts["total"].to_dict() == totals
    by_fold = counts.drop(columns="total")
    assert (by_fold.max(axis=1) - by_fold.min(axis=1) <= 1).all()
    assert (folds.k, folds.seed) == (5, 42)


def test_the_real_ham10000_metadata_gives_the_committed_folds():
    if not (DATA / "HAM10000_metadata.csv").exists():
        pytest.skip(f"no HAM10000 at {DATA}")
    manifest, problems = build_manifest(read_dataset("ham10000", DATA, HAM10000), HAM10000)
    assert problems == []
    duplicates = read_duplicates(HAM_DUPLICATES)
    made = make_folds(manifest.table, HAM10000, 5, 42, duplicates)
    assert made.table.merge(manifest.table).groupby("lesion_id")["fold"].nunique().max() == 1
    frozen = read_folds(HAM_FOLDS, manifest.table, HAM10000, duplicates)
    assert made.digest == frozen.digest
    assert 0.37 < leaked_images(made) / len(manifest) < 0.40


def test_another_label_space_with_unused_classes_still_splits():
    labels = LabelSpace("custom", ("nv", "mel", "none"), ("Nevus", "Melanoma", "None"))
    table = random_table(0)
    folds = make_folds(table[table["label"].isin(["nv", "mel"])], labels, 3, 0)
    assert class_table(folds).loc["none", "total"] == 0
