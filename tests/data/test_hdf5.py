"""Images inside an HDF5 file: the same bytes, frames and digests as from files of their own."""

import io
import multiprocessing
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from kderm.data import hdf5
from kderm.data.hdf5 import MemberError, is_member, member_names, member_path, read_member
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.store import build_store, store_digest

SPEC = ImageSpec(6, 8)


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def packed(tmp_path) -> Path:
    """Twenty pictures, in the three ways that people keep bytes."""
    path = tmp_path / "train-image.hdf5"
    with h5py.File(path, "w") as file:
        for n in range(20):
            data = jpeg(n)
            forms = [np.void(data), np.bytes_(data), np.frombuffer(data, np.uint8)]
            file.create_dataset(f"ISIC_{n}", data=forms[n % 3])
        file.create_dataset("floats", data=np.zeros((2, 3)))
        file.create_group("folder")
    return path


def test_a_path_into_an_hdf5_file_is_told_from_others():
    assert is_member("a/b.hdf5::ISIC_1")
    assert is_member(Path("x.H5::1"))
    for path in ("a/b.hdf5", "a/b.jpg", "a::b.jpg", "b.hdf5::", "::x"):
        assert not is_member(path)


def test_every_image_comes_back_byte_for_byte_however_it_is_kept(packed):
    for n in range(20):
        assert read_member(member_path(packed, f"ISIC_{n}")) == jpeg(n)


def test_many_threads_read_what_one_thread_reads(packed):
    names = [n % 20 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda n: read_member(member_path(packed, f"ISIC_{n}")), names)
    assert list(found) == [jpeg(n) for n in names]


def test_more_files_than_are_kept_open_can_be_read_in_turn(packed, tmp_path):
    copies = [shutil.copy(packed, tmp_path / f"{n}.hdf5") for n in range(12)]
    for copy in copies * 2:
        assert read_member(member_path(copy, "ISIC_1")) == jpeg(1)
    assert len(hdf5._open_files) <= 8


def test_a_file_that_was_replaced_is_read_anew(packed):
    assert read_member(member_path(packed, "ISIC_0")) == jpeg(0)
    fresh = packed.with_name("fresh.hdf5")
    with h5py.File(fresh, "w") as file:
        file.create_dataset("ISIC_0", data=np.void(jpeg(77)))
    os.replace(fresh, packed)
    assert read_member(member_path(packed, "ISIC_0")) == jpeg(77)


def test_a_forked_process_reads_through_a_file_handle_of_its_own(packed):
    path = member_path(packed, "ISIC_0")
    assert read_member(path) == jpeg(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_member, [path] * 20) == [jpeg(0)] * 20
    assert read_member(path) == jpeg(0)


def test_names_are_listed_without_reading_an_image(packed):
    assert {f"ISIC_{n}" for n in range(20)} <= set(member_names(packed))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ISIC_99", "train-image.hdf5 holds no image 'ISIC_99'"),
        ("folder", "holds no image 'folder'"),
        ("floats", r"'floats' in train-image.hdf5 holds no encoded image but float64 \(2, 3\)"),
    ],
)
def test_what_is_no_image_in_the_file_is_named(packed, name, message):
    with pytest.raises(MemberError, match=message):
        read_member(member_path(packed, name))


def test_a_damaged_file_and_a_missing_one_are_unreadable_images_with_a_reason(packed, tmp_path):
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(packed.read_bytes()[:900])
    with pytest.raises(UnreadableImage, match=r"cut\.hdf5 is damaged"):
        read_image(member_path(cut, "ISIC_0"), SPEC)
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_image(member_path(tmp_path / "none.hdf5", "ISIC_0"), SPEC)
    with pytest.raises(UnreadableImage, match="holds no image"):
        read_image(member_path(packed, "ISIC_99"), SPEC)


def test_a_store_of_members_holds_the_frames_of_the_same_files(packed, tmp_path):
    ids = [f"ISIC_{n}" for n in range(20)]
    paths = []
    for n, image_id in enumerate(ids):
        paths.append(tmp_path / f"{image_id}.jpg")
        paths[-1].write_bytes(jpeg(n))
    of_files, _ = build_store(tmp_path / "a", ids, paths, SPEC)
    members = [member_path(packed, image_id) for image_id in ids]
    of_members, unreadable = build_store(tmp_path / "b", ids, members, SPEC)
    assert unreadable == {}
    np.testing.assert_array_equal(of_files.images, of_members.images)


def test_a_changed_hdf5_file_changes_the_digest_of_its_images(packed):
    paths = [member_path(packed, "ISIC_0")]
    before = store_digest(["a"], paths, SPEC)
    assert store_digest(["a"], paths, SPEC) == before
    os.utime(packed, ns=(1, 1))
    assert store_digest(["a"], paths, SPEC) != before
    missing = store_digest(["a"], [member_path("none.hdf5", "ISIC_0")], SPEC)
    assert missing not in (before, store_digest(["a"], paths, SPEC))


def test_an_hdf5_file_without_the_name_of_an_image_in_it_says_how_to_name_one(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["a"] = 1
    with pytest.raises(UnreadableImage, match=r"FILE\.hdf5::ID"):
        read_image(tmp_path / "x.hdf5", ImageSpec(8, 8))
