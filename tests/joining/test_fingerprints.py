import numpy as np
import pytest
from PIL import Image

from kderm.data import fingerprints
from kderm.data.fingerprints import (
    file_fingerprints,
    fine_structure,
    perceptual_bits,
    store_fingerprints,
    thumbnail,
)
from kderm.data.hash_search import symmetries, turned, turned_bits
from kderm.data.images import ImageSpec
from kderm.data.store import build_store

SPEC = ImageSpec(48, 64)


@pytest.fixture
def files(tmp_path, drawn):
    return {f"a{n}": drawn(tmp_path / "images" / f"a{n}.png", n) for n in range(5)}


@pytest.fixture
def store(tmp_path, files):
    return build_store(tmp_path / "store", list(files), list(files.values()), SPEC)[0]


def counted(monkeypatch):
    seen = []
    plain = fingerprints.thumbnail
    monkeypatch.setattr(fingerprints, "thumbnail", lambda frame: seen.append(1) or plain(frame))
    return seen


def has_picture(prints):
    return fine_structure(prints.thumbnails).clear


def equal(a, b):
    return (
        a.image_ids == b.image_ids
        and np.array_equal(a.digests, b.digests)
        and np.array_equal(a.thumbnails, b.thumbnails)
    )


def test_a_store_and_the_files_behind_it_have_one_fingerprint(store, files):
    from_store = store_fingerprints(store, files)
    from_files = file_fingerprints(list(files), list(files.values()), SPEC)
    assert equal(from_store, from_files)
    assert from_store.has_digest.all()
    assert has_picture(from_store).all()


def test_fingerprints_are_made_once(store, files, monkeypatch):
    seen = counted(monkeypatch)
    first = store_fingerprints(store, files)
    assert len(seen) == 5
    assert equal(first, store_fingerprints(store, files))
    assert len(seen) == 5


def test_a_damaged_cache_is_made_again(store, files, tmp_path):
    first = store_fingerprints(store, files)
    cache = tmp_path / "store" / fingerprints.CACHE
    cache.write_bytes(cache.read_bytes()[:200])
    assert equal(first, store_fingerprints(store, files))


def test_digests_known_before_survive_the_loss_of_the_files(store, files):
    first = store_fingerprints(store, files)
    for path in files.values():
        path.unlink()
    assert equal(first, store_fingerprints(store, files))


def test_digests_missing_at_first_are_made_up_for(store, files):
    without = store_fingerprints(store, {})
    assert not without.has_digest.any()
    assert store_fingerprints(store, files).has_digest.all()


def test_an_unreadable_file_has_no_picture(tmp_path, drawn):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    found = file_fingerprints(
        ["good", "broken", "gone"],
        [drawn(tmp_path / "good.png", 1), broken, tmp_path / "gone.png"],
        SPEC,
    )
    assert has_picture(found).tolist() == [True, False, False]
    assert found.has_digest.tolist() == [True, True, False]


def test_a_blank_field_and_a_faint_gradient_have_no_picture():
    blank = np.full((48, 64, 3), 200, np.uint8)
    gradient = np.repeat(np.linspace(190, 210, 64).astype(np.uint8)[None, :, None], 48, axis=0)
    pictures = np.stack([thumbnail(blank), thumbnail(np.repeat(gradient, 3, axis=2))])
    assert not fine_structure(pictures).clear.any()


def test_bits_of_a_turned_picture_are_the_turned_bits(files):
    pictures = np.stack([thumbnail(np.asarray(Image.open(path))) for path in files.values()])
    for symmetry in symmetries():
        direct = perceptual_bits(np.ascontiguousarray(turned(pictures, symmetry)))
        assert np.array_equal(direct, turned_bits(perceptual_bits(pictures), symmetry)), symmetry


def test_the_blur_has_the_edges_of_a_gaussian_filter(files):
    from scipy.ndimage import gaussian_filter

    picture = thumbnail(np.asarray(Image.open(files["a0"]))).astype(np.float32)
    blurred = fingerprints._BLUR @ picture @ fingerprints._BLUR.T
    expected = gaussian_filter(picture, fingerprints._COARSE, mode="nearest", truncate=20)
    np.testing.assert_allclose(blurred, expected, atol=1e-3)


def test_fine_structure_multiplies_to_a_correlation(files):
    pictures = np.stack([thumbnail(np.asarray(Image.open(path))) for path in files.values()])
    fine = fine_structure(pictures)
    codes = fine.codes.reshape(len(pictures), -1).astype(float)
    mine = codes @ codes.T / np.outer(fine.lengths, fine.lengths)
    np.testing.assert_allclose(mine, np.corrcoef(codes), atol=1e-5)


def test_rounding_to_int8_hardly_changes_a_correlation(files):
    pictures = np.stack([thumbnail(np.asarray(Image.open(path))) for path in files.values()])
    codes = fine_structure(pictures).codes.reshape(len(pictures), -1)
    pixels = pictures.astype(float)
    fine = pixels - fingerprints._BLUR @ pixels @ fingerprints._BLUR.T
    exact = (fine / (np.abs(fine) + fingerprints._FEW_LEVELS)).reshape(len(pictures), -1)
    np.testing.assert_allclose(np.corrcoef(codes), np.corrcoef(exact), atol=2e-3)


def test_an_interruption_leaves_no_cache_and_is_made_up_for(store, files, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_fingerprints(store, files, progress=stop)
    assert not (tmp_path / "store" / fingerprints.CACHE).exists()
    assert store_fingerprints(store, files).has_digest.all()


def test_fingerprints_of_some_images_are_theirs(store, files):
    every = store_fingerprints(store, files)
    some = every.of(["a3", "a1", "elsewhere"])
    assert some.image_ids == ["a1", "a3"]
    assert np.array_equal(some.digests, every.digests[[1, 3]])
    assert np.array_equal(some.thumbnails, every.thumbnails[[1, 3]])


def test_an_image_in_an_hdf5_file_has_the_digest_of_its_bytes(tmp_path, files):
    h5py = pytest.importorskip("h5py")
    from kderm.data.hdf5 import member_path

    with h5py.File(tmp_path / "images.hdf5", "w") as target:
        target["ISIC_1"] = np.void(files["a1"].read_bytes())
    inside = file_fingerprints(["x"], [member_path(tmp_path / "images.hdf5", "ISIC_1")], SPEC)
    plain = file_fingerprints(["x"], [files["a1"]], SPEC)
    assert equal(inside, plain)
