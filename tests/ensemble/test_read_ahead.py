import threading

import numpy as np
import pytest
from PIL import Image

from kderm.data.images import ImageSpec
from kderm.ensemble import read_ahead
from kderm.ensemble.read_ahead import decoded_chunks

SPEC = ImageSpec(8, 8)


def chunks(*sizes):
    """Chunks of grey pictures, each of another grey."""
    grey, found = 0, []
    for number, size in enumerate(sizes):
        images = []
        for _ in range(size):
            images.append((Image.fromarray(np.full((8, 8, 3), grey, np.uint8)), ""))
            grey += 10
        found.append((number, images))
    return found


def test_frames_come_in_order_and_bad_images_are_told():
    known = chunks(2, 3)
    known[0][1][1] = (known[0][1][1][0], "no such file")
    known[1][1][0] = (b"no picture", "")
    first, second = decoded_chunks(known, SPEC)
    assert (first.number, second.number) == (0, 1)
    assert first.readable.tolist() == [True, False]
    assert first.errors == ["", "no such file"]
    assert second.readable.tolist() == [False, True, True]
    assert second.errors[0]
    assert [frame[0, 0, 0] for frame in second.frames] == [30, 40]


@pytest.mark.parametrize("threads", [1, 2, None])
def test_no_more_images_than_threads_are_decoded_at_a_time(monkeypatch, threads):
    monkeypatch.setattr(read_ahead.os, "cpu_count", lambda: 3)
    read, lock, at_once, most = read_ahead.read_image, threading.Lock(), 0, 0
    expected = threads or 3
    together = threading.Barrier(expected)

    def counted(source, spec):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait(timeout=20)  # all threads are busy at this moment, or this fails
        with lock:
            at_once -= 1
        return read(source, spec)

    monkeypatch.setattr(read_ahead, "read_image", counted)
    decoded = list(decoded_chunks(chunks(6, 6), SPEC, threads=threads))
    assert sum(len(one.frames) for one in decoded) == 12
    assert most == expected
