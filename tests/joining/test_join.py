import numpy as np
import pandas as pd
import pytest

from kderm.config.schema import Config
from kderm.data.datasets import RawRows
from kderm.data.join import Source, check_sources, label_conflicts, read_sources, without_overlap
from kderm.data.manifest import MANIFEST_COLUMNS
from kderm.data.overlap import COLUMNS
from kderm.data.prepare import default_folds_path, prepare
from kderm.errors import UserError
from kderm.labels import HAM10000
from kderm.run_dir import RunDir


def row(image_id, seed, label="nv", **facts):
    return {"image_id": image_id, "seed": seed, "label": label, **facts}


def many(prefix, first_seed, count=8):
    labels = ["nv", "mel"]
    return [row(f"{prefix}{n}", first_seed + n, labels[n % 2]) for n in range(count)]


def config_of(sources, **data):
    return Config.model_validate(
        {
            "data": {"sources": sources, **data},
            "image": {"size": 32, "stored_height": 64},
            "folds": {"k": 2},
        }
    )


def listed(*roots, **facts):
    return [{"dataset": "table", "root": str(root), "name": root.name, **facts} for root in roots]


def fold_of(prepared):
    return prepared.folds.table.set_index("image_id")["fold"]


# === Reading ===


def test_each_row_says_which_source_it_is_from(table_source):
    one, two = table_source("one", many("a", 0, 2)), table_source("two", many("b", 10, 3))
    raw = read_sources([Source("x", "table", one), Source("y", "table", two)], HAM10000)
    assert raw.table["source"].tolist() == ["x", "x", "y", "y", "y"]
    assert raw.table["row"].tolist() == [2, 3, 2, 3, 4]


def test_an_id_of_two_sources_is_set_apart_and_others_are_kept(table_source):
    one = table_source("one", [row("1", 1), row("2", 2)])
    two = table_source("two", [row("2", 3), row("3", 4)])
    raw = read_sources([Source("one", "table", one), Source("two", "table", two)], HAM10000)
    assert raw.table["image_id"].tolist() == ["1", "2", "two/2", "3"]
    assert any("1 image id of two" in note for note in raw.notes)


def test_bare_lesion_numbers_of_two_sources_are_different_lesions(table_source):
    one = table_source("one", [row("a", 1, lesion_id="7"), row("b", 2, lesion_id="HAM_0000007")])
    two = table_source("two", [row("c", 3, lesion_id="7"), row("d", 4, lesion_id="HAM_0000007")])
    raw = read_sources([Source("one", "table", one), Source("two", "table", two)], HAM10000)
    assert raw.table["lesion_id"].tolist() == ["7", "HAM_0000007", "two/7", "HAM_0000007"]


def test_missing_lesion_ids_are_never_made_into_ids(table_source):
    one = table_source("one", [row("a", 1, lesion_id="unknown"), row("b", 2, lesion_id="x")])
    two = table_source("two", [row("c", 3, lesion_id="unknown"), row("d", 4, lesion_id="")])
    sources = [Source("one", "table", one), Source("two", "table", two)]
    manifest, _ = check_sources(read_sources(sources, HAM10000), HAM10000, ["one", "two"])
    assert manifest.table["lesion_id"].isna().tolist() == [True, False, True, True]


def test_two_sources_of_one_name_are_refused(table_source):
    one = table_source("one", many("a", 0, 2))
    with pytest.raises(UserError, match=r"different name for each.*x"):
        read_sources([Source("x", "table", one), Source("x", "table", one)], HAM10000)


def test_a_source_that_cannot_be_read_is_named(table_source, tmp_path):
    one = table_source("one", many("a", 0, 2))
    with pytest.raises(UserError, match="Source 'gone'"):
        read_sources(
            [Source("one", "table", one), Source("gone", "table", tmp_path / "none")], HAM10000
        )


def test_a_problem_says_its_source_and_the_line_there(table_source):
    one = table_source("one", [row("a", 1), row("b", 2, "wart")])
    two = table_source("two", [row("c", 3, "wart"), *many("d", 10, 2)])
    sources = [Source("one", "table", one), Source("two", "table", two)]
    _, problems = check_sources(read_sources(sources, HAM10000), HAM10000, ["one", "two"])
    told = {(problem.row, problem.message.split(":")[0]) for problem in problems}
    assert told == {(3, "one"), (2, "two")}


def test_each_source_has_its_own_map(table_source):
    one = table_source("one", [row("a", 1, "wart"), row("b", 2)])
    two = table_source("two", [row("c", 3, "wart"), row("d", 4)])
    raw = read_sources(
        [
            Source("one", "table", one, mapping={"wart": "bkl"}),
            Source("two", "table", two, mapping={"wart": "drop"}),
        ],
        HAM10000,
    )
    manifest, problems = check_sources(raw, HAM10000, ["one", "two"])
    assert not problems
    assert dict(zip(manifest.table["image_id"], manifest.table["label"], strict=True)) == {
        "a": "bkl",
        "b": "nv",
        "d": "nv",
    }


def test_sources_that_disagree_on_a_shared_lesion_are_noted_not_refused(table_source):
    one = table_source("one", [row("a", 1, "nv", lesion_id="HAM_1")])
    two = table_source("two", [row("b", 2, "mel", lesion_id="HAM_1")])
    sources = [Source("one", "table", one), Source("two", "table", two)]
    manifest, problems = check_sources(read_sources(sources, HAM10000), HAM10000, ["one", "two"])
    assert not problems
    assert any("disagree on the label of 1 lesion" in note for note in manifest.notes)


# === Removing ===


def raw_of(rows):
    table = pd.DataFrame(rows, columns=["image_id", "source", "lesion_id"])
    for column in MANIFEST_COLUMNS:
        if column not in table:
            table[column] = None
    return RawRows(table.assign(row=np.arange(len(table)) + 2, label="nv"))


def pairs_of(*pairs):
    return pd.DataFrame([(*pair, "digest", 1.0) for pair in pairs], columns=COLUMNS)


def test_the_earlier_sources_image_stays_and_pairs_within_a_source_stay():
    raw = raw_of([("a1", "a", None), ("a2", "a", None), ("b1", "b", None), ("b2", "b", None)])
    kept, removed, _ = without_overlap(raw, pairs_of(("a1", "a2"), ("a1", "b1")))
    assert kept.table["image_id"].tolist() == ["a1", "a2", "b2"]
    assert removed.to_dict("records") == [
        {"image_id": "b1", "source": "b", "kept": "a1", "kept_source": "a", "by": "digest"}
    ]


def test_what_hung_together_through_a_removed_image_still_does():
    raw = raw_of([("a1", "a", None), ("b1", "b", "L"), ("b2", "b", "L"), ("b3", "b", "M")])
    kept, _, linked = without_overlap(raw, pairs_of(("a1", "b1")))
    assert kept.table["image_id"].tolist() == ["a1", "b2", "b3"]
    assert linked == [("a1", "b2")]


def test_an_image_of_three_sources_is_kept_once_and_named_by_the_one_that_stays():
    raw = raw_of([("a1", "a", None), ("b1", "b", None), ("c1", "c", None)])
    kept, removed, _ = without_overlap(raw, pairs_of(("a1", "b1"), ("b1", "c1")))
    assert kept.table["image_id"].tolist() == ["a1"]
    assert removed["kept"].tolist() == ["a1", "a1"]
    assert removed["kept_source"].tolist() == ["a", "a"]


def test_conflicts_are_pairs_with_different_labels():
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "label": ["nv", "mel", "nv"]})
    found = label_conflicts(table, pairs_of(("a", "b"), ("a", "c"), ("a", "gone")))
    assert found[["image_id_1", "image_id_2", "label_1", "label_2"]].to_numpy().tolist() == [
        ["a", "b", "nv", "mel"]
    ]


# === Preparing ===


@pytest.fixture
def overlapping(table_source):
    """Two sources; b0 and b1 are copies of a0 and a1, b1 under another label."""
    one = table_source("one", many("a", 0))
    copies = [row("b0", 0, "nv"), row("b1", 1, "nv")]
    two = table_source("two", copies + many("c", 20))
    return one, two


def test_the_same_picture_in_two_sources_shares_a_fold(workplace, overlapping):
    prepared = prepare(config_of(listed(*overlapping)))
    fold = fold_of(prepared)
    assert len(fold) == 18
    assert fold["a0"] == fold["b0"]
    assert fold["a1"] == fold["b1"]
    pairs = set(zip(prepared.overlaps["image_id_1"], prepared.overlaps["image_id_2"], strict=True))
    assert pairs == {("a0", "b0"), ("a1", "b1")}
    assert set(prepared.manifest.table["source"]) == {"one", "two"}


def test_conflicting_labels_of_one_picture_are_told(workplace, overlapping):
    notes = " ".join(prepare(config_of(listed(*overlapping))).notes)
    assert "1 pair of these with different labels, for example a1 (mel) and b1 (nv)" in notes


def test_removing_keeps_the_first_sources_image_and_counts(workplace, overlapping):
    prepared = prepare(config_of(listed(*overlapping), overlap="remove"))
    assert set(prepared.manifest.table["image_id"]).isdisjoint({"b0", "b1"})
    assert prepared.manifest.dropped == {"two: also in one": 2}
    assert prepared.removed["image_id"].tolist() == ["b0", "b1"]


def test_a_source_that_another_has_as_a_whole_leaves_the_other(workplace, table_source):
    one = table_source("one", many("a", 0))
    two = table_source("two", many("b", 0, 2))
    prepared = prepare(config_of(listed(one, two), overlap="remove"))
    assert set(prepared.manifest.table["source"]) == {"one"}


def test_ignoring_looks_at_no_picture(workplace, overlapping, monkeypatch):
    def refused(*args, **options):
        raise AssertionError("fingerprints were made")

    monkeypatch.setattr("kderm.data.checked.store_fingerprints", refused)
    prepared = prepare(config_of(listed(*overlapping), overlap="ignore"))
    assert len(prepared.folds.table) == 18
    assert len(prepared.overlaps) == 0


def test_a_begun_run_keeps_its_joined_folds(workplace, overlapping):
    config, run = config_of(listed(*overlapping)), RunDir(workplace / "runs" / "joined")
    first = prepare(config, run)
    run.fold(0).path.mkdir(parents=True)
    run.fold(0).state.write_bytes(b"")
    assert fold_of(prepare(config, run)).equals(fold_of(first))


def test_one_listed_source_is_the_data_set_by_itself(workplace, overlapping):
    one, _ = overlapping
    alone = prepare(config_of([], dataset="table", root=str(one)))
    listed_alone = prepare(config_of(listed(one)))
    assert fold_of(alone).equals(fold_of(listed_alone))


def test_the_fold_tables_name_tells_joined_data_sets_apart(tmp_path):
    def name(data):
        return default_folds_path(Config.model_validate({"data": data})).name

    ham = {"dataset": "ham10000", "root": str(tmp_path)}
    clinic = {"dataset": "table", "root": str(tmp_path / "clinic")}
    joined = name({"sources": [ham, clinic]})
    assert joined == "ham10000+table_clinic_k5_seed42.csv"
    others = [
        name({"sources": [clinic, ham]}),
        name({"sources": [ham, clinic], "overlap": "remove"}),
        name({"sources": [ham, {**clinic, "name": "ours"}]}),
        name({"sources": [ham, clinic], "labels": "binary"}),
        name(ham),
    ]
    assert len({joined, *others}) == 6


def test_sources_and_a_root_beside_them_are_refused(workplace, overlapping):
    with pytest.raises(UserError, match=r"either data\.sources or one data set"):
        prepare(config_of(listed(*overlapping), root=str(overlapping[0])))
