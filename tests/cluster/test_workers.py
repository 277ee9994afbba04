"""The actor that predicts, without a cluster around it."""

import pickle
import sys
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

import kderm
from kderm.ensemble.cluster.listing import Chunk
from kderm.ensemble.cluster.workers import Order, Predictor

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
