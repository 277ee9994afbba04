"""The decoder: every kind of file becomes the same upright uint8 frame, or a short reason."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kderm.data.images import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    ImageSpec,
    UnreadableImage,
    read_image,
)
from kderm.errors import UserError

SPEC = ImageSpec(24, 32)


def picture(height=24, width=32):
    """A smooth uint8 (height, width, 3) picture with no symmetry."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (255 * np.stack([x, y, (1 - x) * y], axis=-1)).round().astype(np.uint8)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, format, **options)
    return stream.getvalue()


def test_a_picture_of_the_frames_size_keeps_every_pixel(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture()))
    read = read_image(tmp_path / "a.png", SPEC)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, picture())


def test_only_the_formats_that_the_suffixes_stand_for_are_opened():
    Image.init()
    assert {Image.EXTENSION[suffix] for suffix in IMAGE_SUFFIXES} == set(IMAGE_FORMATS)
    for format in ("EPS", "TGA", "PPM"):  # Pillow hands PostScript to another program
        with pytest.raises(UnreadableImage, match="known format"):
            read_image(encoded(picture(), format), SPEC)


def test_a_path_and_its_bytes_give_the_same_pixels(tmp_path):
    data = encoded(picture(60, 90), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.jpg"), SPEC), read_image(data, SPEC))


@pytest.mark.parametrize(("height", "width"), [(24, 41), (31, 32)])
def test_a_picture_of_the_frames_scale_is_cropped_without_resampling(height, width):
    whole = picture(height, width)
    top, left = (height - 24) // 2, (width - 32) // 2
    expected = whole[top : top + 24, left : left + 32]
    np.testing.assert_array_equal(read_image(encoded(whole), SPEC), expected)


@pytest.mark.parametrize(("height", "width"), [(48, 64), (100, 64), (48, 200), (14, 200), (12, 16)])
def test_the_centre_is_resized_to_cover_the_frame(height, width):
    scale = min(height / 24, width / 32)
    box_height, box_width = 24 * scale, 32 * scale
    top, left = (height - box_height) / 2, (width - box_width) / 2
    read = read_image(encoded(picture(height, width)), SPEC).astype(float)
    # The picture is linear in x and y, so a resample must give the ramp at the frame's centres.
    x = (left + (np.arange(32) + 0.5) * scale - 0.5) / (width - 1)
    y = (top + (np.arange(24) + 0.5) * scale - 0.5) / (height - 1)
    inner = np.s_[3:-3, 3:-3]
    assert np.abs(read[..., 0] - 255 * x[None, :])[inner].max() < 2
    assert np.abs(read[..., 1] - 255 * y[:, None])[inner].max() < 2


def test_fine_stripes_are_averaged_and_not_aliased():
    stripes = np.zeros((240, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    read = read_image(encoded(stripes), SPEC)
    assert np.abs(read.astype(int) - 127).max() <= 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_every_exif_orientation_is_turned_upright(orientation, format):
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo(picture()))
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    read = read_image(encoded(stored, format, exif=exif, **options), SPEC)
    assert np.abs(read.astype(int) - picture()).max() <= (3 if format == "JPEG" else 0)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_like_one_resized_in_full(orientation):
    large = picture(24 * 9, 32 * 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(np.rot90(large, 1) if orientation == 6 else large)
    data = encoded(stored, "JPEG", quality=95, exif=exif)
    assert np.abs(read_image(data, SPEC).astype(int) - read_image(encoded(large), SPEC)).max() <= 3


def test_a_jpeg_under_four_times_the_frame_is_decoded_at_full_scale():
    data = encoded(picture(24 * 4 - 1, 32 * 4 - 1), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        scale = min(image.height / 24, image.width / 32)
        left, top = (image.width - 32 * scale) / 2, (image.height - 24 * scale) / 2
        box = (left, top, left + 32 * scale, top + 24 * scale)
        expected = image.resize((32, 24), Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(read_image(data, SPEC), np.asarray(expected))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBA", "LA", "PA"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(picture()).convert("LA" if mode == "PA" else mode)
    image = image.convert(mode)
    # Those that no file format keeps, in every Pillow, are read from memory.
    in_memory = mode in ("YCbCr", "HSV", "PA")
    source = image if in_memory else encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    read = read_image(source, SPEC)
    expected = image.convert("RGB")
    assert read.shape == (24, 32, 3)
    assert np.abs(read.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode):
    image = Image.new("RGBA", (32, 24), (0, 0, 0, 0)).convert(mode)
    assert read_image(encoded(image), SPEC).min() == 255


def test_half_transparent_black_becomes_mid_grey():
    image = Image.new("RGBA", (32, 24), (0, 0, 0, 128))
    assert np.unique(read_image(encoded(image), SPEC)).tolist() == [127]


def test_a_palette_with_a_transparent_entry_is_laid_on_white():
    image = Image.new("P", (32, 24), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((5, 6), 1)
    read = read_image(encoded(image, transparency=0), SPEC)
    assert read[6, 5].tolist() == [40, 50, 60]
    assert read[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_by_the_full_range(format):
    grey = np.linspace(0, 65535, 24 * 32).astype(np.uint16).reshape(24, 32)
    read = read_image(encoded(grey, format), SPEC)
    np.testing.assert_array_equal(read[..., 0], np.round(grey / 257.0).astype(np.uint8))
    np.testing.assert_array_equal(read[..., 0], read[..., 2])


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    first, second = (Image.new("RGB", (32, 24), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=[second], **options)
    assert read_image(data, SPEC)[3, 3].tolist() == [255, 0, 0]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_does_not_cost_the_image():
    data = encoded(picture(), exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12")
    np.testing.assert_array_equal(read_image(data, SPEC), picture())


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("GIF", {}),
    ],
)
def test_a_truncated_file_is_refused(format, options, kept):
    rng = np.random.default_rng(0)
    data = encoded(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), format, **options)
    with pytest.raises(UnreadableImage) as raised:
        read_image(data[: int(kept * len(data))], SPEC)
    assert 0 < len(raised.value.reason) <= 160


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_download_cut_short_and_padded_with_zeros_is_refused(format):
    data = encoded(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8), format)
    half = len(data) // 2
    with pytest.raises(UnreadableImage):
        read_image(data[:half] + bytes(len(data) - half), SPEC)


def test_a_jpeg_with_a_thumbnail_is_judged_by_its_own_end_not_the_thumbnails():
    thumbnail = encoded(picture(8, 8), "JPEG")
    exif = b"Exif\x00\x00" + thumbnail
    data = encoded(picture(), "JPEG", exif=exif)
    assert read_image(data, SPEC).shape == (24, 32, 3)
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(data[:-2], SPEC)


def test_bytes_after_the_end_of_a_jpeg_do_no_harm():
    data = encoded(picture(), "JPEG")
    np.testing.assert_array_equal(
        read_image(data + b"\xff\xda trailer", SPEC), read_image(data, SPEC)
    )


def test_each_bad_source_has_its_own_short_reason(tmp_path, monkeypatch):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is not a picture")
    (tmp_path / "float.tif").write_bytes(encoded(np.zeros((4, 4), np.float32), "TIFF"))
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {}
    for name in ("missing.jpg", "empty.jpg", "text.jpg", "float.tif", "pipe.jpg", "."):
        with pytest.raises(UnreadableImage) as raised:
            read_image(tmp_path / name, SPEC)
        reasons[name] = raised.value.reason
    assert reasons == {
        "missing.jpg": "the file does not exist",
        "empty.jpg": "the file is empty",
        "text.jpg": "not an image in a known format",
        "float.tif": "floating-point pixels have no agreed range",
        "pipe.jpg": "not a regular file",
        ".": "a folder, not a file",
    }

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnreadableImage, match="no permission to read the file"):
        read_image(tmp_path / "text.jpg", SPEC)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [24 * 32 - 1, 100])
def test_a_decompression_bomb_is_refused(limit, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match="million pixels"):
        read_image(encoded(picture()), SPEC)


def test_a_spec_goes_through_plain_data_and_back():
    assert ImageSpec.from_dict(SPEC.to_dict()) == SPEC
    assert SPEC.to_dict() == {"height": 24, "width": 32}


def test_a_spec_without_pixels_is_refused():
    with pytest.raises(UserError, match="height=0"):
        ImageSpec(0, 32)


# === Pixels in memory ===


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels_in_memory_give_what_their_file_gives(mode):
    image = Image.fromarray(picture(60, 90)).convert(mode)
    expected = read_image(encoded(image), SPEC)
    np.testing.assert_array_equal(read_image(image, SPEC), expected)
    if mode == "RGB":
        np.testing.assert_array_equal(read_image(np.asarray(image), SPEC), expected)


def test_a_pillow_image_is_turned_upright_and_left_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(30, 60), "JPEG", exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as image:
        found = read_image(image, SPEC)
        assert image.size == (60, 30)
        np.testing.assert_array_equal(found, read_image(data, SPEC))
        np.testing.assert_array_equal(read_image(image, SPEC), found)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_refused_with_what_it_is(pixels):
    with pytest.raises(UnreadableImage, match=rf"Received: {pixels.dtype} of shape"):
        read_image(pixels, SPEC)


def test_a_closed_pillow_image_and_one_too_large_are_unreadable(monkeypatch):
    image = Image.open(io.BytesIO(encoded(picture())))
    image.close()
    with pytest.raises(UnreadableImage):
        read_image(image, SPEC)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for large in (picture(), Image.fromarray(picture())):
        with pytest.raises(UnreadableImage, match="million pixels"):
            read_image(large, SPEC)
