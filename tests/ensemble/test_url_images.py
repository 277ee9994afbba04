"""Images at URLs: named, ordered and decoded as those of a folder."""

import fsspec
import numpy as np
import pytest
from PIL import Image

from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.ensemble.cluster.folder_listing import list_folders
from kderm.ensemble.inputs import find_inputs
from kderm.errors import UserError
from kderm.labels import label_space

LABELS = label_space("ham10000", None, None)
FILES = ("b/x.png", "a/x.png", "a/c/y.png", "a.png", ".hidden/z.png", "a/.z.png", "notes.txt")


@pytest.fixture
def both(workplace):
    """The same files in a folder and at a URL."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    rng = np.random.default_rng(0)
    for name in FILES:
        path = workplace / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(path, format="png")
        store.pipe_file(f"/box/images/{name}", path.read_bytes())
    return workplace / "images"


def test_a_url_gives_the_ids_and_the_order_of_a_folder(both, workplace):
    there, here = (find_inputs([source], LABELS) for source in ("memory://box/images", "images"))
    assert there.table["image_id"].tolist() == here.table["image_id"].tolist()
    assert (len(there), there.skipped) == (4, 1)
    assert there.sources == ("memory://box/images",)
    listing = list_folders(["memory://box/images"], LABELS, workplace / "listing.db")
    assert listing.slice(0, 9).table.equals(there.table)
    assert (listing.skipped, listing.sources) == (there.skipped, there.sources)


def test_the_pixels_are_those_of_the_file(both):
    spec = ImageSpec(8, 8)
    for url in find_inputs(["memory://box/images"], LABELS).table["path"]:
        own = both / url.removeprefix("memory:///").removeprefix("memory://")[len("box/images/") :]
        np.testing.assert_array_equal(read_image(url, spec), read_image(own, spec))
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_image("memory://box/images/gone.png", spec)


def test_a_table_may_name_images_by_url(both, workplace):
    (workplace / "table.csv").write_text("path\nmemory://box/images/a.png\n")
    inputs = find_inputs(["table.csv"], LABELS)
    assert inputs.table.loc[0, ["image_id", "path", "problem"]].tolist() == [
        *("a", "memory://box/images/a.png", "")
    ]


def test_files_and_patterns_of_urls_are_named_too(both):
    inputs = find_inputs(["memory://box/images/a.png", "memory://box/images/*/x.png"], LABELS)
    assert len(inputs) == 3
    with pytest.raises(UserError, match="Received: nothing that is there"):
        find_inputs(["memory://box/nowhere"], LABELS)
    fsspec.filesystem("memory").pipe_file("/box/table.csv", b"path\n")
    with pytest.raises(UserError, match="Copy it to this machine"):
        find_inputs(["memory://box/table.csv"], LABELS)
