"""The actor that predicts, without a cluster around it."""

import pickle
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
    "images": np.array([pickle.dumps(Chunk(7, [("a.jpg", "")], None))], dtype=object),
}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go; what Ray holds is the reference itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda reference: reference))
    return tmp_path


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
    assert pickle.loads(batch["images"][0]).seen == str(workplace / "images" / "a.jpg")
    actor = Predictor(Order({}, None, 8, 1, kderm.__version__))
    monkeypatch.setattr(actor, "_open", lambda stack: None)
    (workplace / "images").rename(workplace / "not mounted here")
    (row,) = actor(batch)
    assert "Mount the folder there" in str(row["error"][0])
    (other,) = read({"id": np.array([0])})["images"]
    assert pickle.loads(other).seen == ""
