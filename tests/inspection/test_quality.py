"""Image quality: each flag is raised by what it names, and by nothing else."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from kderm.inspection import quality
from kderm.inspection.quality import FLAGS, file_sizes, flag, measure

needs_opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="needs kderm[opencv]")


def frames(n=40, height=60, width=80):
    """Textured skin with a lesion each, uint8 (n, height, width, 3)."""
    rng = np.random.default_rng(0)
    skin = np.array([200, 160, 140]) + rng.normal(0, 6, (n, height, width, 1))
    y, x = np.ogrid[:height, :width]
    inside = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
    skin[:, inside] -= 70
    return np.clip(skin, 0, 255).astype(np.uint8)


def flags(images, sources=None):
    found = flag(measure(images, np.arange(len(images))), np.array(sources or ["a"] * len(images)))
    return [{name for name in FLAGS if found[name][row]} for row in range(len(images))]


def blurred(frame):
    small = Image.fromarray(frame).resize((10, 8), Image.Resampling.BICUBIC)
    return np.asarray(small.resize(frame.shape[1::-1], Image.Resampling.BICUBIC))


def test_ordinary_pictures_are_not_flagged():
    assert flags(frames()) == [set()] * 40


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("blurred", blurred),
        ("too dark", lambda frame: (frame * 0.2).astype(np.uint8)),
        ("too bright", lambda frame: (frame * 0.1 + 228).astype(np.uint8)),
        ("bluer than red", lambda frame: frame[..., ::-1]),
    ],
)
def test_a_spoilt_picture_gets_its_flag(name, spoil):
    images = frames()
    images[7] = spoil(images[7])
    found = flags(images)
    assert name in found[7]
    assert not any(found[:7] + found[8:])


def test_a_round_field_has_dark_corners():
    images = frames()
    y, x = np.ogrid[-30:30, -40:40]
    images[3][(y**2 + x**2) > 30**2] = 5
    assert [row for row, names in enumerate(flags(images)) if "dark corners" in names] == [3]


@needs_opencv
def test_hair_is_flagged():
    images = frames(height=120, width=160)
    for column in range(4, 160, 12):
        images[5][:, column : column + 2] = 30
    assert [row for row, names in enumerate(flags(images)) if "hair" in names] == [5]


def test_blur_is_told_against_the_own_source():
    images = frames()
    images[20:] = [blurred(frame) for frame in images[20:]]
    names = flags(images, ["sharp"] * 20 + ["soft"] * 20)
    assert not any("blurred" in each for each in names)


def test_without_opencv_hair_is_not_known_and_not_flagged(monkeypatch):
    from kderm.data import preprocess

    monkeypatch.setattr(preprocess, "_import_opencv", lambda: None)
    measured = measure(frames(4), np.arange(4))
    assert measured["hair"].isna().all()
    assert not flag(measured, np.array(["a"] * 4))["hair"].any()


def test_rows_come_back_in_the_order_asked_for():
    images = frames(300)
    images[:, :10] = np.arange(300).astype(np.uint8)[:, None, None, None]
    rows = np.random.default_rng(1).permutation(300)
    done = []
    measured = measure(images, rows, lambda *seen: done.append(seen))
    for place in (0, 70, 299):
        alone = measure(images, rows[place : place + 1])
        np.testing.assert_array_equal(measured.iloc[place], alone.iloc[0])
    assert done[-1] == (300, 300)


def test_sizes_are_read_from_headers(tmp_path):
    Image.fromarray(frames(1)[0]).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"not an image")
    sizes = file_sizes([str(tmp_path / name) for name in ("a.jpg", "b.jpg", "gone.jpg")])
    assert sizes.values.tolist() == [[80, 60, "JPEG"], [0, 0, ""], [0, 0, ""]]


def test_every_measure_has_a_column():
    assert list(measure(frames(2), [1, 0])) == list(quality.MEASURES)
