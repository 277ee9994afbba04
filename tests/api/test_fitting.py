"""What `fit` writes of its images, and what it says of them, before anything is trained."""

import io

import numpy as np
import pytest
from PIL import Image

import kderm
from kderm.api import fitting
from kderm.data.images import ImageSpec, read_image


def pillow_images():
    """Pictures that look otherwise when a program turns them into RGB carelessly."""
    ramp = np.arange(12 * 8, dtype=np.uint32).reshape(12, 8)
    colours = np.stack([ramp * 2, ramp, 255 - ramp, (ramp * 7) % 256], axis=2).astype(np.uint8)
    grey = Image.fromarray((ramp * 600).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = io.BytesIO()
    Image.fromarray(colours[..., :3]).save(lying, "PNG", exif=exif)
    noted = Image.fromarray(colours[..., :3])
    noted.getexif()[0x0112] = 6
    palette = Image.fromarray(colours[..., :3]).quantize(16)
    palette.info["transparency"] = 3
    return {
        "16-bit grey": grey,
        "32-bit integers": grey.convert("I"),
        "alpha": Image.fromarray(colours),
        "grey with alpha": Image.fromarray(colours).convert("LA"),
        "multiplied alpha": Image.fromarray(colours).convert("RGBa"),
        "palette": palette,
        "four inks": Image.fromarray(colours[..., :3]).convert("CMYK"),
        "two colours": Image.fromarray(colours[..., :3]).convert("1"),
        "lying": Image.open(lying),
        "lying in its notes alone": noted,
    }


@pytest.mark.parametrize("kind", pillow_images())
def test_a_pillow_image_is_trained_on_with_the_pixels_that_predict_sees(kind, tmp_path):
    image = pillow_images()[kind]
    spec = ImageSpec(6, 6)
    path = fitting._as_file(image, tmp_path, 0)
    np.testing.assert_array_equal(read_image(path, spec), read_image(image, spec))
    assert read_image(path, spec).std() > 0
    assert fitting._fingerprint(image, 0) == fitting._fingerprint(pillow_images()[kind], 0)


def test_pictures_that_differ_in_their_palette_alone_are_other_pictures():
    one = Image.new("P", (4, 4), 1)
    other = one.copy()
    one.putpalette([0, 0, 0, 255, 0, 0])
    other.putpalette([0, 0, 0, 0, 0, 255])
    assert fitting._fingerprint(one, 0) != fitting._fingerprint(other, 0)


def test_a_pillow_image_that_predict_could_not_read_is_refused_by_fit(tmp_path):
    with pytest.raises(kderm.UserError, match="number 5: floating-point pixels"):
        fitting._as_file(Image.new("F", (4, 4), 0.5), tmp_path, 5)
