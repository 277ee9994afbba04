"""Frames on the device or the host: the same bytes, on the device of the batch."""

import keras
import numpy as np
import pytest

from kderm.data import device_frames
from kderm.data.device_frames import DeviceFrames, HostFrames, training_frames

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="on torch alone")
SHAPE = (11, 6, 5, 3)


@pytest.fixture
def images(tmp_path):
    """A store's memory map of random frames."""
    frames = np.memmap(tmp_path / "pixels.u8", dtype=np.uint8, mode="w+", shape=SHAPE)
    frames[:] = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    frames.flush()
    return np.memmap(tmp_path / "pixels.u8", dtype=np.uint8, mode="r", shape=SHAPE)


@pytest.mark.parametrize("kind", [HostFrames, DeviceFrames])
@pytest.mark.parametrize("piece", [1, 200, 1 << 20])
def test_rows_are_the_stores_bytes_in_the_order_asked_for(images, monkeypatch, kind, piece):
    monkeypatch.setattr(device_frames, "_PIECE_BYTES", piece)
    frames = kind(images, torch.device("cpu"))
    rows = np.array([7, 0, 10, 7], dtype=np.int64)
    assert frames.shape == SHAPE
    assert frames[rows].dtype == torch.uint8
    np.testing.assert_array_equal(frames[rows].numpy(), images[rows])


def test_a_batch_may_be_written_to_without_touching_the_store(images):
    before = np.array(images)
    for kind in (HostFrames, DeviceFrames):
        frames = kind(images, torch.device("cpu"))
        frames[np.arange(3)].zero_()
        np.testing.assert_array_equal(frames[np.arange(3)].numpy(), before[:3])


@pytest.mark.parametrize(
    ("asked", "free", "kind"),
    [
        ("auto", 4 * 990, DeviceFrames),
        ("auto", 4 * 990 - 1, HostFrames),
        ("never", 1 << 40, HostFrames),
    ],
)
def test_the_store_goes_to_the_device_if_it_takes_a_quarter_of_the_free_memory(
    images, monkeypatch, asked, free, kind
):
    monkeypatch.setattr(device_frames, "_free_bytes", lambda device: free)
    assert type(training_frames(images, asked)) is kind


def test_on_the_cpu_the_store_stays_where_it_is(images):
    assert type(training_frames(images)) is HostFrames


def test_a_card_that_others_have_filled_meanwhile_leaves_the_store_on_the_host(images, monkeypatch):
    monkeypatch.setattr(device_frames, "_free_bytes", lambda device: 1 << 40)

    def full(*arguments, **options):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    assert type(training_frames(images)) is HostFrames
