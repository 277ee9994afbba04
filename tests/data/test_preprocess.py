"""Preprocessing: what each step does to a picture, and that training and prediction do the same."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from kderm.data import images, preprocess
from kderm.data.images import ImageSpec, read_image
from kderm.data.preprocess import (
    SMALLEST_KEPT_SIDE,
    STEPS,
    border_box,
    clahe,
    hair_mask,
    preprocess_frame,
    remove_hair,
    shades_of_gray,
)
from kderm.data.store import store_digest
from kderm.errors import UserError

SKIN = (205, 160, 140)
WITHOUT_OPENCV = [name for name, step in STEPS.items() if not step.needs_opencv]

needs_opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="needs kderm[opencv]")


def skin(height=120, width=160):
    """Uneven skin, uint8 (height, width, 3)."""
    rng = np.random.default_rng(0)
    coarse = np.clip(rng.normal(SKIN, 5, (6, 8, 3)), 0, 255).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def with_lesion(picture, centre=(60, 80), radius=25, colour=(110, 70, 55)):
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return np.where(inside[..., None], np.uint8(colour), picture)


def round_field(picture, radius):
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    y, x = y - picture.shape[0] / 2, x - picture.shape[1] / 2
    return np.where((y**2 + x**2 < radius**2)[..., None], picture, np.uint8(6))


def encoded(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def hairs(shape, count=6):
    """Bool (H, W): curved lines two pixels wide from edge to edge."""
    mask = np.zeros(shape, bool)
    columns = np.arange(shape[1])
    for number in range(count):
        rows = 10 + number * 18 + 8 * np.sin(columns / 40 + number)
        for thickness in (0, 1):
            mask[np.clip(rows.astype(int) + thickness, 0, shape[0] - 1), columns] = True
    return mask


@pytest.mark.parametrize(
    "name",
    [
        *WITHOUT_OPENCV,
        *(pytest.param(name, marks=needs_opencv) for name in STEPS if name not in WITHOUT_OPENCV),
    ],
)
def test_a_step_keeps_shape_and_type_and_leaves_its_input_alone(name):
    frame = with_lesion(skin())
    frame[hairs(frame.shape[:2])] = 30
    before = frame.copy()
    spec = ImageSpec(120, 160, (name,))
    read = read_image(encoded(frame), spec)
    assert read.shape == (120, 160, 3)
    assert read.dtype == np.uint8
    preprocess_frame(frame, (name,))
    np.testing.assert_array_equal(frame, before)


def test_without_steps_the_frame_is_the_decoded_picture():
    frame = with_lesion(skin())
    assert preprocess_frame(frame, ()) is frame
    np.testing.assert_array_equal(read_image(encoded(frame), ImageSpec(120, 160)), frame)


@needs_opencv
def test_steps_are_applied_in_the_listed_order():
    frame = with_lesion(skin())
    frame[hairs(frame.shape[:2])] = 30
    expected = clahe(shades_of_gray(remove_hair(frame)))
    steps = ("hair_removal", "shades_of_gray", "clahe")
    np.testing.assert_array_equal(read_image(encoded(frame), ImageSpec(120, 160, steps)), expected)
    turned_round = read_image(encoded(frame), ImageSpec(120, 160, steps[::-1]))
    assert (turned_round != expected).any()


# --- border_crop ---


@pytest.mark.parametrize("factor", [1, 3])
def test_black_bars_are_cut_to_the_pixel_of_the_search(factor):
    picture = np.repeat(np.repeat(with_lesion(skin()), factor, 0), factor, 1)
    height, width = picture.shape[:2]
    cut = 12 * factor
    picture[:cut], picture[:, -cut:] = 4, 4
    box = border_box(picture)
    step = max(1, max(height, width) // 160)
    np.testing.assert_allclose(box, (0, cut, width - cut, height), atol=step)


def test_a_round_field_keeps_a_square_of_nine_tenths_of_its_diameter():
    picture = round_field(with_lesion(skin(160, 160)), radius=70)
    left, top, right, bottom = border_box(picture)
    assert right - left == pytest.approx(2 * 70 * 2 / np.sqrt(5), abs=4)
    assert bottom - top == pytest.approx(2 * 70 * 2 / np.sqrt(5), abs=4)
    assert left == pytest.approx(160 - right, abs=2)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(skin(), id="skin"),
        pytest.param(with_lesion(skin()), id="a lesion in the middle"),
        pytest.param(with_lesion(skin(), centre=(0, 80), radius=60), id="a lesion at the edge"),
        pytest.param(np.zeros((60, 80, 3), np.uint8), id="black"),
        pytest.param(np.full((60, 80, 3), 255, np.uint8), id="white"),
        pytest.param(round_field(skin(160, 160), radius=30), id="a field too small to be one"),
        pytest.param(skin(4, 5), id="a few pixels"),
    ],
)
def test_a_picture_without_a_border_stays_whole(picture):
    height, width = picture.shape[:2]
    assert border_box(picture) == (0, 0, width, height)


def test_a_thin_bright_rim_does_not_hide_the_border():
    picture = with_lesion(skin())
    picture[:15] = 3
    picture[0] = 128
    assert border_box(picture)[1] == 15


def test_no_more_than_the_stated_share_of_a_side_is_cut():
    for cut in range(0, 80, 4):
        picture = skin(160, 160)
        picture[:, :cut] = 2
        left, _, right, _ = border_box(picture)
        assert right - left >= SMALLEST_KEPT_SIDE * 160
        assert left == (cut if 160 - cut >= SMALLEST_KEPT_SIDE * 160 else 0)


def test_the_kept_part_fills_the_frame():
    picture = with_lesion(skin())
    whole = read_image(encoded(picture), ImageSpec(60, 80, ("border_crop",)))
    bordered = np.pad(picture, ((20, 20), (20, 20), (0, 0)))
    cropped = read_image(encoded(bordered), ImageSpec(60, 80, ("border_crop",)))
    assert np.abs(cropped.astype(int) - whole).max() <= 3
    assert read_image(encoded(bordered), ImageSpec(60, 80))[0].max() == 0


@pytest.mark.parametrize("side", range(300, 2000, 170))
def test_what_is_kept_of_a_scaled_jpeg_is_never_below_twice_the_frame(side, monkeypatch):
    picture = skin(side, side)
    picture[:, : int(0.38 * side)] = 0  # nearly the most that may be cut
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95)
    kept = []

    def spy(decoded):
        left, top, right, bottom = border_box(decoded)
        kept.append(min(right - left, bottom - top))
        return left, top, right, bottom

    monkeypatch.setattr(images, "border_box", spy)
    read_image(stream.getvalue(), ImageSpec(60, 60, ("border_crop",)))
    assert kept[0] >= min(2 * 60, 0.6 * side)
    assert kept[0] < 0.65 * side


# --- hair_removal ---


@needs_opencv
def test_hair_is_found_and_painted_over_with_skin():
    clean = with_lesion(skin())
    drawn = hairs(clean.shape[:2])
    hairy = clean.copy()
    hairy[drawn] = (40, 30, 25)
    found = hair_mask(hairy)
    outside = np.hypot(*np.mgrid[-60:60, -80:80]) > 30
    assert found[drawn & outside].mean() > 0.95
    assert found[~drawn & outside].mean() < 0.02
    error = np.abs(remove_hair(hairy).astype(int) - clean).mean(axis=-1)
    assert error[drawn & outside].mean() < 4
    assert np.abs(hairy.astype(int) - clean).mean(axis=-1)[drawn & outside].mean() > 100


@needs_opencv
@pytest.mark.parametrize("factor", [1, 2])
def test_hair_is_found_alike_at_any_size(factor):
    clean = np.repeat(np.repeat(skin(), factor, 0), factor, 1)
    drawn = np.repeat(np.repeat(hairs((120, 160)), factor, 0), factor, 1)
    clean[drawn] = 35
    assert hair_mask(clean).mean() == pytest.approx(drawn.mean(), rel=0.15)


@needs_opencv
def test_dots_globules_and_lesions_are_not_hair():
    frame = with_lesion(skin())
    for row in range(10, 110, 12):
        for column in range(10, 150, 12):
            frame[row : row + 4, column : column + 4] = 50
    assert not hair_mask(frame).any()
    assert remove_hair(frame) is frame


@needs_opencv
def test_a_dark_rim_of_the_frame_is_not_hair():
    frame = skin()
    frame[:2], frame[:, -2:] = 10, 10
    assert not hair_mask(frame).any()


@needs_opencv
def test_where_hair_covers_too_much_the_picture_is_left_alone():
    frame = skin()
    frame[hairs(frame.shape[:2])] = 30
    frame[:, ::6], frame[:, 1::6], frame[:, 2::6] = 30, 30, 30
    assert hair_mask(frame).mean() > preprocess._MOST_HAIR
    assert remove_hair(frame) is frame


# --- shades_of_gray ---


def test_a_coloured_light_on_a_grey_scene_is_taken_out():
    grey = np.random.default_rng(1).integers(20, 180, (40, 50, 1))
    lit = np.rint(grey * [1.0, 0.8, 0.6]).astype(np.uint8)
    balanced = shades_of_gray(lit).astype(int)
    assert np.ptp(balanced, axis=-1).max() <= 2
    assert np.ptp(lit.astype(int), axis=-1).max() > 50


def test_shades_of_gray_is_the_formula_of_its_source():
    frame = with_lesion(skin())
    light = (frame.reshape(-1, 3).astype(float) ** 6).mean(axis=0) ** (1 / 6)
    light /= np.linalg.norm(light)
    expected = np.clip(np.rint(frame / (np.sqrt(3) * light)), 0, 255)
    np.testing.assert_array_equal(shades_of_gray(frame), expected)


@pytest.mark.parametrize("colour", [(0, 0, 0), (90, 0, 40)])
def test_a_channel_without_light_leaves_the_picture_as_it_is(colour):
    frame = np.full((5, 6, 3), colour, np.uint8)
    np.testing.assert_array_equal(shades_of_gray(frame), frame)


# --- clahe ---


@needs_opencv
def test_clahe_raises_local_contrast_and_keeps_the_colour():
    import cv2

    frame = (with_lesion(skin(), colour=(185, 142, 124)) // 2).astype(np.uint8)
    before = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB).astype(int)
    after = cv2.cvtColor(clahe(frame), cv2.COLOR_RGB2LAB).astype(int)
    assert after[..., 0].std() > 1.3 * before[..., 0].std()
    assert np.abs(after[..., 1:] - before[..., 1:]).mean() < 2


# --- the spec, the digest, the missing package ---


def test_without_steps_the_digest_is_that_of_stores_built_before_there_were_steps():
    assert json.dumps(ImageSpec(6, 8).to_dict()) == '{"height": 6, "width": 8}'
    assert ImageSpec.from_dict({"height": 6, "width": 8}) == ImageSpec(6, 8)


def test_steps_and_their_order_are_part_of_the_digest(tmp_path):
    specs = [
        ImageSpec(6, 8),
        ImageSpec(6, 8, ("shades_of_gray",)),
        ImageSpec(6, 8, ("border_crop", "shades_of_gray")),
        ImageSpec(6, 8, ("shades_of_gray", "border_crop")),
    ]
    assert len({store_digest(["a"], [tmp_path / "a.jpg"], spec) for spec in specs}) == 4


def test_a_spec_survives_json():
    spec = ImageSpec(6, 8, ("border_crop", "shades_of_gray"))
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_an_unknown_step_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"Did you mean 'shades_of_gray'.*'shade_of_grey'"):
        ImageSpec(6, 8, ("shade_of_grey",))


def test_a_repeated_step_is_refused():
    with pytest.raises(UserError, match=r"once.*border_crop, border_crop"):
        ImageSpec(6, 8, ("border_crop", "border_crop"))


@pytest.mark.parametrize("name", STEPS)
def test_without_opencv_only_the_steps_that_need_it_are_refused_naming_the_extra(name, monkeypatch):
    monkeypatch.setattr(preprocess, "_import_opencv", lambda: None)
    if name in WITHOUT_OPENCV:
        read_image(encoded(skin()), ImageSpec(24, 32, (name,)))
        return
    with pytest.raises(UserError, match=r"pip install -e '\.\[opencv\]'") as error:
        ImageSpec(24, 32, (name,))
    assert name in str(error.value)


@needs_opencv
def test_many_threads_give_the_pixels_of_one():
    pictures = [with_lesion(skin(), centre=(60, 30 + 5 * number)) for number in range(16)]
    for picture in pictures:
        picture[hairs(picture.shape[:2])] = 30
    files = [encoded(picture) for picture in pictures]
    spec = ImageSpec(60, 80, ("border_crop", "hair_removal", "shades_of_gray", "clahe"))
    alone = [read_image(file, spec) for file in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda file: read_image(file, spec), files))
    np.testing.assert_array_equal(together, alone)
