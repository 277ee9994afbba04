"""The actor that predicts, without a cluster around it."""

import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

import kderm
from kderm.ensemble.cluster.listing import Chunk, listing_of
from kderm.ensemble.cluster.workers import ChunksFrom, Order, Predictor
from kderm.ensemble.inputs import find_inputs
from kderm.labels import label_space

BATCH = {
    "number": np.array([7]),
    "images": np.array([Chunk(7, [("a.jpg", "")], None).to_json()], dtype=object),
}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go; what Ray holds is the reference itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda reference: reference))
    return tmp_path


def test_a_chunk_goes_to_an_actor_with_every_value_as_it_is():
    paths = ["a.jpg", 'böse/ä"\n.jpg', "\udcff.jpg", "s3://bucket/b.jpg"]
    images = [(path, "not UTF-8" if "\udcff" in path else "") for path in paths]
    known = np.array([[0.1, np.nan, -0.0], [1e-45, 3.4e38, 1 / 3]], np.float32)
    for metadata in (None, known):
        again = Chunk.from_json(Chunk(3, images, metadata, "a.jpg").to_json())
        assert (again.number, again.images, again.seen) == (3, images, "a.jpg")
        if metadata is None:
            assert again.metadata is None
        else:
            assert again.metadata.dtype == np.float32
            assert again.metadata.tobytes() == known.tobytes()


def test_an_actor_without_a_chunk_writes_nothing(scratch):
    Predictor(Order({"ensemble.json": b"{}"}, None, 8, 1, kderm.__version__))
    assert list(scratch.iterdir()) == []


def test_an_ensemble_that_cannot_be_opened_leaves_nothing_and_is_told(scratch):
    actor = Predictor(Order({"ensemble.json": b"{}"}, None, 8, 1, kderm.__version__))
    (row,) = actor(BATCH)
    assert row["number"].tolist() == [7]
    assert "ensemble.json" in str(row["error"][0])
    assert list(scratch.iterdir()) == []


def test_a_node_without_the_disk_of_the_images_says_so(scratch, workplace, monkeypatch):
    (workplace / "images").mkdir()
    (workplace / "images" / "a.jpg").write_bytes(b"no image")
    inputs = find_inputs(["images"], label_space("ham10000", None, None))
    listing = listing_of(inputs, workplace / "listing.db")
    listing.ask_for([0])
    read = ChunksFrom(listing.file, 8, str(workplace))
    batch = read({"id": np.array([0])})
    assert Chunk.from_json(batch["images"][0]).seen == str(workplace / "images" / "a.jpg")
    actor = Predictor(Order({}, None, 8, 1, kderm.__version__))
    monkeypatch.setattr(actor, "_open", lambda stack: None)
    (workplace / "images").rename(workplace / "not mounted here")
    (row,) = actor(batch)
    assert "Mount the folder there" in str(row["error"][0])
    (other,) = read({"id": np.array([0])})["images"]
    assert Chunk.from_json(other).seen == ""
