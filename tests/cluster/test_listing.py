"""The listing on the disk names the images as `find_inputs` does."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kderm.ensemble.cluster.folder_listing import list_folders
from kderm.ensemble.cluster.listing import asked_chunks, listing_of, opened
from kderm.ensemble.cluster.predict import Job
from kderm.ensemble.inputs import find_inputs
from kderm.ensemble.settings import Settings
from kderm.errors import UserError
from kderm.labels import label_space

LABELS = label_space("ham10000", None, None)

FILES = (
    *("b/x.jpg", "a/x.jpg", "a-b/x.png", "a/c/x.jpg", "a.jpg", "z.TIFF", "notes.txt"),
    *("a/.hidden.jpg", ".cache/y.jpg", "__MACOSX/y.jpg", "a b/é.jpg", "a/x.jpeg", "k/1.png"),
)


@pytest.fixture
def images(workplace):
    for name in FILES:
        path = workplace / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (workplace / "images" / "link.jpg").symlink_to(workplace / "images" / "z.TIFF")
    os.symlink(workplace / "images" / "b", workplace / "images" / "again")
    return workplace / "images"


@pytest.mark.parametrize(
    "sources",
    [["images"], ["images/a", "images"], ["images/*.jpg", "images/k"], ["images/a/x.jpg"]],
)
def test_folders_are_listed_with_the_ids_and_the_order_of_a_table_in_memory(images, sources):
    listing = list_folders(sources, LABELS, images.parent / "listing.db")
    inputs = find_inputs(sources, LABELS)
    pd.testing.assert_frame_equal(listing.slice(0, listing.images).table, inputs.table)
    told = (listing.images, listing.sources, listing.skipped, listing.repeated)
    assert told == (len(inputs), inputs.sources, inputs.skipped, inputs.repeated)


def test_class_folders_and_tables_are_left_to_a_table_in_memory(images, workplace):
    file = workplace / "listing.db"
    (workplace / "all" / "nevus").mkdir(parents=True)
    (workplace / "all" / "nevus" / "1.jpg").write_bytes(b"1")
    assert list_folders(["all"], LABELS, file) is None
    (workplace / "table.csv").write_text("path\nimages/a.jpg\n")
    file.unlink()
    assert list_folders(["table.csv"], LABELS, file) is None
    with pytest.raises(UserError, match="does not exist"):
        list_folders(["nowhere"], LABELS, workplace / "other.db")


def test_chunks_are_asked_for_by_their_place_among_the_missing_ones(images, workplace):
    inputs = find_inputs(["images"], LABELS)
    listing = listing_of(inputs, workplace / "listing.db")
    listing.ask_for([1, 3])
    chunks = list(asked_chunks(listing.file, [0, 1], size=2))
    assert [chunk.number for chunk in chunks] == [1, 3]
    paths = inputs.table["path"].tolist()
    assert [path for chunk in chunks for path, _ in chunk.images] == paths[2:4] + paths[6:8]


def test_images_among_the_figures_of_the_result_are_found(images, workplace):
    listing = list_folders(["images"], LABELS, workplace / "listing.db")
    assert len(listing.inside(images / "a")) == 1
    assert len(listing.inside(images / "nothing")) == 0
    assert len(listing.inside(workplace)) == 0


def test_parts_of_other_metadata_are_not_taken_for_these(images, workplace, monkeypatch):
    monkeypatch.setattr(Job, "chunk", 8)
    inputs = find_inputs(["images"], LABELS)
    bundle, asked = SimpleNamespace(digest="one"), Settings("none", "mean", "keras", "float32", 0)
    metadata = np.zeros((len(inputs), 3), np.float32)

    def digest(number):
        listing = listing_of(inputs, workplace / f"{number}.db", metadata)
        return Job(bundle, listing, asked, 8).digest()

    before = digest(1)
    assert digest(2) == before
    metadata[1, 2] = 1
    assert digest(3) != before


def test_a_full_disk_is_told_in_a_sentence(workplace):
    def fill():
        with opened(workplace / "listing.db", write=True) as base:
            base.execute("PRAGMA max_page_count=4")
            base.execute("CREATE TABLE images (path TEXT)")
            base.executemany("INSERT INTO images VALUES (?)", [("x" * 1000,)] * 100)

    with pytest.raises(UserError, match=r"Received: database or disk is full\. Make room"):
        fill()
    with (
        pytest.raises(UserError, match="Received: unable to open database file"),
        opened(workplace / "nowhere" / "listing.db", write=True),
    ):
        pass


@pytest.fixture
def not_utf8(images):
    """Images of names that are no UTF-8, one in a folder of such a name."""
    for name in (b"\xff.png", b"a/\xe9.png", b"caf\xe9/x.png"):
        path = os.path.join(os.fsencode(images), name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.link(images / "a.jpg", path)
        except OSError:
            pytest.skip("this disk has no such names")
    return images


def test_a_file_whose_name_is_not_utf8_is_a_row_that_says_so(not_utf8, workplace):
    listing = list_folders(["images"], LABELS, workplace / "listing.db")
    table = find_inputs(["images"], LABELS).table
    pd.testing.assert_frame_equal(listing.slice(0, listing.images).table, table)
    assert (table["problem"] != "").sum() == 3
    assert all("rename it" in problem for problem in table["problem"] if problem)
    assert any(path.endswith(r"a/\udce9.png") for path in table["path"])
    table.to_csv(workplace / "table.csv", index=False)
    assert len(list(listing.columns())) == len(table)


def test_a_pattern_of_two_folders_and_files_keeps_its_order(images, workplace):
    sources = ["images/a*", "images/*/*.jpg", "images/k/1.png"]
    listing = list_folders(sources, LABELS, workplace / "listing.db")
    inputs = find_inputs(sources, LABELS)
    pd.testing.assert_frame_equal(listing.slice(0, listing.images).table, inputs.table)
    assert listing.repeated == inputs.repeated
    with pytest.raises(UserError, match="No file matches the pattern"):
        list_folders(["images/*.none"], LABELS, workplace / "other.db")
