"""What the weights of a stranger's file may be: each array once, and really in it."""

import io
import struct

import h5py
import numpy as np
import pytest

from kderm.models.untrusted import Suspicious, _weights


def written(fill):
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        fill(file)
    return held.getvalue()


def test_arrays_are_added_up():
    def fill(file):
        file["layers/dense/vars/0"] = np.zeros((4, 5), np.float32)
        file["layers/dense/vars/1"] = np.zeros(5, np.float32)

    assert _weights(written(fill)) == 100


def test_an_array_of_many_names_is_refused():
    def fill(file):
        file["a"] = np.zeros(1000, np.float32)
        file["layers/b"] = file["a"]

    with pytest.raises(Suspicious, match="a second name"):
        _weights(written(fill))


@pytest.mark.parametrize("where", ["/", "layers"])
def test_a_group_that_holds_itself_is_refused(where):
    def fill(file):
        layers = file.create_group("layers")
        layers["again"] = file[where]

    with pytest.raises(Suspicious, match="a second name"):
        _weights(written(fill))


def test_arrays_that_lie_over_one_another_are_refused():
    def fill(file):
        for name in "ab":
            file[name] = np.zeros(1000, np.float32)

    content = written(fill)
    with h5py.File(io.BytesIO(content)) as file:
        a, b = (file[name].id.get_offset() for name in "ab")
    # The second array is said to be where the first one is; its own room is cut off.
    content = content.replace(struct.pack("<QQ", b, 4000), struct.pack("<QQ", a, 4000))
    with h5py.File(io.BytesIO(content)) as file:
        assert file["b"].id.get_offset() == a
    more = content[: max(a, b)]
    tail = len(content) - max(a, b)
    assert tail <= 4000 + 16
    end = struct.pack("<Q", len(content))
    content = more.replace(end, struct.pack("<Q", len(more)))
    with pytest.raises(Suspicious, match="claim 8,000 bytes"):
        _weights(content)
