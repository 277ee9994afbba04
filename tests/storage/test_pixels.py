"""Decoded images at a run's URL, and on the machines that need them."""

import pytest

from kderm.errors import UserError
from kderm.storage.pixels import keep_pixels, pixels_here
from kderm.storage.places import open_place


@pytest.fixture
def pixels(tmp_path):
    """The pixels of a store on the machine that decoded them."""
    store = tmp_path / "first" / "0123"
    store.mkdir(parents=True)
    for name in ("pixels.npy", "index.json", "meta.json"):
        (store / name).write_text(name)
    return store / "pixels.npy"


def test_pixels_are_kept_once_and_brought_once_to_a_machine_without_them(
    pixels, cache, bucket, monkeypatch
):
    place = open_place("bucket://box/runs")
    for _ in range(2):
        keep_pixels(pixels, place)
    names = ["pixels.npy", "index.json", "meta.json"]
    assert bucket.puts == [f"box/runs/_stores/0123/{name}" for name in names]
    assert pixels_here(pixels, place) == pixels
    pixels.unlink()
    for _ in range(2):
        assert pixels_here(pixels, place) == cache / "stores" / "0123" / "pixels.npy"
        assert pixels_here(pixels, place).read_text() == "pixels.npy"
        monkeypatch.setattr(bucket, "cat_file", None)  # nothing is read again


def test_pixels_that_are_nowhere_are_told(pixels, cache, bucket):
    place = open_place("bucket://box/runs")
    pixels.unlink()
    with pytest.raises(UserError, match="Expected the decoded images at"):
        pixels_here(pixels, place)
