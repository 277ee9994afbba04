import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

from kderm.data import hash_search
from kderm.data.fingerprints import SIDE, Fingerprints, file_fingerprints
from kderm.data.hash_search import MOST_DIFFERENT, near_pairs, pack
from kderm.data.images import ImageSpec
from kderm.data.overlap import find, global_id, same_ids

SPEC = ImageSpec(64, 64)
REAL = Path(os.environ.get("KDERM_DATA", Path(__file__).parents[3] / "shared")) / "data"


def prints_of(folder, names):
    return file_fingerprints([Path(name).stem for name in names], [folder / n for n in names], SPEC)


def listed(pairs):
    return [(row.image_id_1, row.image_id_2, row.by) for row in pairs.itertuples()]


def blank(ids):
    return Fingerprints(
        list(ids), np.zeros((len(ids), 32), np.uint8), np.zeros((len(ids), SIDE, SIDE), np.uint8)
    )


# === Pictures ===


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((56, 42), Image.Resampling.BILINEAR),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: ImageEnhance.Contrast(image).enhance(0.9),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        lambda image: image.transpose(Image.Transpose.ROTATE_180),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.transpose(Image.Transpose.ROTATE_270),
        lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    ],
    ids=["smaller", "lighter", "flatter", "h", "v", "180", "90", "270", "transpose", "transverse"],
)
def test_a_changed_copy_under_another_name_is_the_same_picture(tmp_path, drawn, change):
    for number in range(6):
        drawn(tmp_path / f"p{number}.jpg", number)
    drawn(tmp_path / "copy.jpg", 3, change, quality=75)
    names = [f"p{number}.jpg" for number in range(6)] + ["copy.jpg"]
    assert listed(find(prints_of(tmp_path, names))) == [("p3", "copy", "picture")]


def test_different_pictures_are_not_the_same(tmp_path, drawn):
    names = [drawn(tmp_path / f"p{number}.jpg", number).name for number in range(40)]
    assert len(find(prints_of(tmp_path, names))) == 0


def test_blank_images_match_nothing_by_picture(tmp_path):
    for number, level in enumerate((10, 200, 200)):
        Image.new("RGB", (80, 60), (level,) * 3).save(
            tmp_path / f"b{number}.jpg", quality=90 + number
        )
    assert len(find(prints_of(tmp_path, ["b0.jpg", "b1.jpg", "b2.jpg"]))) == 0


# === Files and ids ===


def test_one_file_under_three_names_is_paired_with_the_first(tmp_path, drawn):
    data = drawn(tmp_path / "a.jpg", 1).read_bytes()
    for name in ("b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(data)
    pairs = find(prints_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg"]))
    assert listed(pairs) == [("a", "b", "digest"), ("a", "c", "digest")]
    assert pairs["similarity"].tolist() == [1.0, 1.0]


def test_every_copy_of_a_file_that_shows_an_earlier_picture_is_paired_with_that(tmp_path, drawn):
    drawn(tmp_path / "a.jpg", 1)
    data = drawn(tmp_path / "b.jpg", 1, quality=70).read_bytes()
    (tmp_path / "c.jpg").write_bytes(data)
    expected = [("a", "b", "picture"), ("a", "c", "picture"), ("b", "c", "digest")]
    assert listed(find(prints_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg"]))) == expected
    one, two = prints_of(tmp_path, ["a.jpg"]), prints_of(tmp_path, ["b.jpg", "c.jpg"])
    assert listed(find(one, two)) == expected[:2]


def test_an_unknown_digest_equals_no_other():
    assert len(find(blank(["a", "b"]))) == 0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("ISIC_0024306", "ISIC_0024306_downsampled"),
        ("ISIC_0024306", "2019/isic_0024306.JPG"),
        ("ISIC_0024306_downsampled", "val/ISIC_0024306_downsampled.png"),
        ("PAT_1516_1765_530", "other/PAT_1516_1765_530.png"),
    ],
)
def test_an_archive_id_is_one_image_wherever_it_stands(a, b):
    assert listed(find(blank([a, b]))) == [(a, b, "id")]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("IMG_0001", "other/IMG_0001"),
        ("ISIC_0024306", "ISIC_0024307"),
        ("ISIC_0024306", "ISIC_0024306_1"),
        ("ISIC_1", "x/ISIC_1"),
    ],
)
def test_other_ids_say_nothing(a, b):
    assert len(find(blank([a, b]))) == 0


def test_the_strongest_evidence_is_told(tmp_path, drawn):
    data = drawn(tmp_path / "ISIC_0000001.jpg", 1).read_bytes()
    (tmp_path / "ISIC_0000001_downsampled.jpg").write_bytes(data)
    names = ["ISIC_0000001.jpg", "ISIC_0000001_downsampled.jpg"]
    pairs = find(prints_of(tmp_path, names))
    assert pairs["by"].tolist() == ["id"]
    assert pairs["similarity"].tolist() == [1.0]


def test_one_id_over_two_pictures_shows_in_the_similarity(tmp_path, drawn):
    drawn(tmp_path / "ISIC_0000001.jpg", 1)
    drawn(tmp_path / "ISIC_0000001_downsampled.jpg", 2)
    pairs = find(prints_of(tmp_path, ["ISIC_0000001.jpg", "ISIC_0000001_downsampled.jpg"]))
    assert pairs["by"].tolist() == ["id"]
    assert pairs["similarity"][0] < 0.5


def test_two_sets_are_compared_with_each_other_only(tmp_path, drawn):
    for name, seed in (("a1", 1), ("a2", 1), ("b1", 1), ("b2", 2), ("b3", 2)):
        drawn(tmp_path / f"{name}.jpg", seed, quality=80 + int(name[1]))
    one = prints_of(tmp_path, ["a1.jpg", "a2.jpg"])
    two = prints_of(tmp_path, ["b1.jpg", "b2.jpg", "b3.jpg"])
    pairs = find(one, two)
    assert {(a, b) for a, b, _ in listed(pairs)} == {("a1", "b1"), ("a2", "b1")}


def test_each_image_of_the_second_set_is_paired_by_id_once():
    a, b = ["ISIC_0000001", "ISIC_0000001_downsampled", "x"], ["v/ISIC_0000001", "ISIC_0000009"]
    assert listed(same_ids(a, b)) == [("ISIC_0000001", "v/ISIC_0000001", "id")]
    assert listed(find(blank(a), blank(b))) == listed(same_ids(a, b))


def test_a_global_id_is_lower_case_without_its_alias():
    assert global_id("train/ISIC_0024306_downsampled.jpg") == "isic_0024306"
    assert global_id("lesion_7") is None


# === The search ===


def brute(first, second):
    near = np.bitwise_count(first[:, None] ^ second) <= MOST_DIFFERENT
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(near), strict=True)}


def hashes_with_neighbours(rng, count):
    hashes = rng.integers(0, 1 << 63, count, dtype=np.uint64)
    for row in range(0, count - 1, 2):
        flips = rng.choice(63, rng.integers(0, 10), replace=False)
        hashes[row + 1] = hashes[row] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    return hashes


@pytest.mark.parametrize("few", [0, 10**9])
def test_both_searches_find_each_near_pair_once_and_no_other(monkeypatch, few):
    monkeypatch.setattr(hash_search, "_FEW", few)
    rng = np.random.default_rng(0)
    first, second = hashes_with_neighbours(rng, 300), hashes_with_neighbours(rng, 200)
    second[:50] = first[:50] ^ np.uint64(5)
    found = [
        (int(a), int(b))
        for i, j in near_pairs(first, second, lambda i, j: np.ones(len(i), bool))
        for a, b in zip(i, j, strict=True)
    ]
    assert len(found) == len(set(found)) > 50
    assert set(found) == brute(first, second)


def test_six_flipped_bits_are_found_wherever_they_are(monkeypatch):
    monkeypatch.setattr(hash_search, "_FEW", 0)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 1 << 63, 1, dtype=np.uint64)
    places = [rng.choice(63, 6, replace=False) for _ in range(40)]
    # The worst case: as many bands as possible have one flipped bit each.
    places += [np.array([band * 7 for band in bands]) for bands in combinations(range(9), 6)]
    flips = [np.bitwise_or.reduce(np.uint64(1) << p.astype(np.uint64)) for p in places]
    second = base ^ np.array(flips, np.uint64)
    found = [j for _, j in near_pairs(base, second, lambda i, j: np.ones(len(i), bool))]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(second)))


def test_small_chunks_give_the_same_pairs(monkeypatch):
    rng = np.random.default_rng(2)
    hashes = hashes_with_neighbours(rng, 200)
    for chunk in (1, 7):
        monkeypatch.setattr(hash_search, "_FEW", 0)
        monkeypatch.setattr(hash_search, "_CHUNK", chunk)
        found = {
            (int(a), int(b))
            for i, j in near_pairs(hashes, hashes, lambda i, j: i < j)
            for a, b in zip(i, j, strict=True)
        }
        assert found == {(i, j) for i, j in brute(hashes, hashes) if i < j}


def test_packing_keeps_every_bit_but_the_mean():
    bits = np.zeros((63, 8, 8), bool)
    bits.reshape(63, 64)[np.arange(63), np.arange(1, 64)] = True
    packed = pack(bits)
    assert len(set(packed.tolist())) == 63
    assert (np.bitwise_count(packed) == 1).all()


# === Real data ===


def test_ids_tell_which_images_isic_2019_took_over():
    files = {
        "2019": REAL / "labels" / "ISIC_2019_Training_GroundTruth.csv",
        "ham": REAL / "ham10000" / "HAM10000_metadata.csv",
        "uda1": REAL / "isic_uda1" / "metadata.csv",
    }
    if not all(path.is_file() for path in files.values()):
        pytest.skip("no real tables here")
    ids = {
        name: pd.read_csv(path, usecols=["image" if name == "2019" else "image_id"]).iloc[:, 0]
        for name, path in files.items()
    }
    ham, uda1, all_2019 = (ids[name].tolist() for name in ("ham", "uda1", "2019"))
    assert len(same_ids(ham, all_2019)) == 10_015
    shared = same_ids(uda1, all_2019)
    assert len(shared) == 481  # 270 under the same id, the others as `_downsampled`
    assert (shared["image_id_1"] == shared["image_id_2"]).sum() == 270
    assert len(same_ids(ham, uda1)) == 0


@pytest.mark.real
def test_copies_in_real_collections_are_found_and_nothing_else():
    folders = {"ham10000": ("ham10000", 10_015), "isic_uda1": ("isic_uda1", 557)}
    if not all((REAL / folder).is_dir() for folder, _ in folders.values()):
        pytest.skip("no real data here")
    prints = {}
    for name, (folder, count) in folders.items():
        paths = sorted((REAL / folder).rglob("*.jpg"))
        assert len(paths) == count
        prints[name] = file_fingerprints([path.stem for path in paths], paths, ImageSpec(146, 146))
    assert len(find(prints["ham10000"], prints["isic_uda1"])) == 0
    table = pd.read_csv(REAL / "ham10000" / "HAM10000_metadata.csv").set_index("image_id")
    pairs = find(prints["ham10000"])
    one = pairs["image_id_1"].map(table["lesion_id"]) == pairs["image_id_2"].map(table["lesion_id"])
    assert listed(pairs[~one]) == [("ISIC_0025226", "ISIC_0030074", "picture")]
    digests = pairs[pairs["by"] == "digest"]
    assert listed(digests) == [
        ("ISIC_0024366", "ISIC_0029861", "digest"),
        ("ISIC_0024777", "ISIC_0029938", "digest"),
    ]
    assert len(pairs) >= 80
