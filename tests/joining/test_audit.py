import json

import pandas as pd
import pytest

from kderm.config.schema import Config
from kderm.data.audit import audit, examine
from kderm.data.folds import read_duplicates
from kderm.data.prepare import prepare


def row(image_id, seed, label="nv", **facts):
    return {"image_id": image_id, "seed": seed, "label": label, **facts}


def config_of(*roots, **data):
    sources = [{"dataset": "table", "root": str(root), "name": root.name} for root in roots]
    where = {"sources": sources} if len(roots) > 1 else {"dataset": "table", "root": str(roots[0])}
    image = {"size": 32, "stored_height": 64}
    return Config.model_validate({"data": {**where, **data}, "image": image, "folds": {"k": 2}})


@pytest.fixture
def one(table_source):
    """Five images; a2 is a1 under another name, and a4 is a3 with one lesion id for both."""
    return table_source(
        "one",
        [
            row("a1", 1, "nv"),
            row("a2", 1, "nv"),
            row("a3", 3, "mel", lesion_id="x"),
            row("a4", 3, "mel", lesion_id="x"),
            row("a5", 5, "nv", lesion_id="y"),
        ],
    )


@pytest.fixture
def two(table_source):
    return table_source(
        "two", [row("b1", 1, "mel"), row("b2", 20, "nv"), row("b3", 21, "mel", lesion_id="z")]
    )


def test_pairs_are_counted_within_and_across_sources(workplace, one, two):
    found = examine(config_of(one, two))
    across = found.pairs[found.pairs["source_1"] != found.pairs["source_2"]]
    within = found.pairs[found.pairs["source_1"] == found.pairs["source_2"]]
    assert list(zip(across["image_id_1"], across["image_id_2"], strict=True)) == [("a1", "b1")]
    assert list(zip(within["image_id_1"], within["image_id_2"], strict=True)) == [
        ("a1", "a2"),
        ("a3", "a4"),
    ]
    assert found.pairs["joined"].tolist() == [False, False, True]
    assert found.groups == (7, 2)
    assert found.groups_with_pairs == (5, 3)


def test_conflicts_are_listed(workplace, one, two):
    found = examine(config_of(one, two))
    assert found.conflicts[["image_id_1", "image_id_2"]].to_numpy().tolist() == [["a1", "b1"]]
    assert "Labels that differ within a pair: 1, for example a1 (nv) and b1 (mel)." in str(found)


def test_sources_are_counted_before_anything_is_removed(workplace, one, two):
    found = examine(config_of(one, two, overlap="remove"))
    images = dict(zip(found.sources["source"], found.sources["images"], strict=True))
    assert images == {"one": 5, "two": 3, "all": 8}
    assert found.removed["image_id"].tolist() == ["b1"]
    assert "1 image of later sources left out" in str(found)


def test_a_single_data_sets_pairs_are_written_in_the_form_that_data_duplicates_reads(
    workplace, one
):
    text = audit(config_of(one), workplace / "audit")
    assert read_duplicates(workplace / "audit" / "pairs.csv") == [("a1", "a2"), ("a3", "a4")]
    assert f"data.duplicates={workplace / 'audit' / 'pairs.csv'}" in text
    config = config_of(one, duplicates=str(workplace / "audit" / "pairs.csv"))
    fold = prepare(config).folds.table.set_index("image_id")["fold"]
    assert fold["a1"] == fold["a2"]
    again = examine(config)
    assert again.listed == (2, 2)
    assert again.groups_with_pairs == (3, 2)


def test_tables_hold_what_the_text_says(workplace, one, two):
    audit(config_of(one, two, overlap="remove"), workplace / "audit")
    counts = {
        name: len(pd.read_csv(workplace / "audit" / f"{name}.csv"))
        for name in ("pairs", "sources", "conflicts", "removed")
    }
    assert counts == {"pairs": 3, "sources": 3, "conflicts": 1, "removed": 1}
    assert "across sources" in (workplace / "audit" / "audit.txt").read_text()


def test_nothing_found_is_said(workplace, table_source):
    clean = table_source("clean", [row(f"p{n}", 50 + n) for n in range(4)])
    text = audit(config_of(clean), workplace / "audit")
    assert "The same image twice: none found" in text
    assert "data.duplicates" not in text


def test_problems_are_told_and_stop_nothing(workplace, table_source):
    odd = table_source("odd", [row("p1", 1), row("p2", 1), row("p3", 2, "wart")])
    (odd / "p4.jpg").write_bytes(b"no picture")
    table = pd.read_csv(odd / "table.csv")
    table.loc[len(table)] = ["p4", "nv"]
    table.to_csv(odd / "table.csv", index=False)
    found = examine(config_of(odd))
    assert "PROBLEM, which prepare refuses: unknown label (1)" in str(found)
    assert "PROBLEM, which prepare refuses: unreadable image (1)" in str(found)
    assert list(found.unreadable) == ["p4"]
    assert found.pairs["image_id_2"].tolist() == ["p2"]


def test_one_id_over_different_pictures_is_told(workplace, table_source):
    one = table_source("one", [row("ISIC_0000001", 1), row("ISIC_0000002", 2)])
    two = table_source("two", [row("ISIC_0000001_downsampled", 3), row("ISIC_0000004", 4)])
    text = str(examine(config_of(one, two)))
    assert "Pairs by id whose pictures differ: 1, for example ISIC_0000001 and " in text


def test_the_audit_changes_neither_folds_nor_runs(workplace, one, two):
    audit(config_of(one, two), workplace / "audit")
    assert not (workplace / "cv_folds").exists()
    assert [path.name for path in (workplace / "runs").iterdir()] == ["_stores"]
    meta = next((workplace / "runs" / "_stores").glob("*/meta.json"))
    assert json.loads(meta.read_text())["n"] == 8
