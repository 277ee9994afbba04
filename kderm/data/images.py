"""Decoding: an image file becomes a uint8 RGB frame of a fixed size.

The one decoder of the project: the image store (training) and the predictor both call `read_image`,
so a picture has the same pixels on both sides. Knows files and pixels; no tables, no Keras.
"""

import io
import math
import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kderm.data.hdf5 import MemberError, is_member, read_member
from kderm.data.preprocess import (
    SMALLEST_KEPT_SIDE,
    border_box,
    check_steps,
    preprocess_frame,
)
from kderm.errors import UserError, first_line
from kderm.storage.places import is_url, read_url

# Takes part in every store digest. Raise it when a change below, or in data/preprocess.py, changes
# any pixel.
DECODER_VERSION = "1"

# What a folder search takes for an image, lower case. Earlier suffixes win where a folder holds one
# image in two formats.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp"),
    *(".tif", ".tiff", ".webp", ".jp2", ".gif"),
)

# The formats, by Pillow's names, that these suffixes stand for. No other is opened, whatever a file
# is called: of some Pillow hands the file to another program.
IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "JPEG2000", "GIF")

# BICUBIC with Pillow's support scaled to the ratio, which is what antialiases. LANCZOS rings
# visibly along hairs and ruler marks, BOX is uneven at ratios that are not whole numbers.
_FILTER = Image.Resampling.BICUBIC

# EXIF orientation to the transposition that undoes it. Source: CIPA DC-008 (Exif 2.32), tag 0x0112.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112


# What `read_image` takes: a path, a file's bytes, a Pillow image, or uint8 pixels (h, w, 3), RGB.
ImageSource = str | os.PathLike | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class ImageSpec:
    """The facts that fix a frame's pixels; they live in the ensemble bundle.

    Attributes:
        height, width: of the frame, in pixels.
        preprocess: names of `preprocess.STEPS`, in order.
    """

    height: int
    width: int
    preprocess: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocess", check_steps(self.preprocess))
        if not (self.height >= 1 and self.width >= 1):
            raise UserError(
                "A frame needs a height and a width of at least 1 pixel. "
                f"Received: height={self.height}, width={self.width}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return self.height, self.width, 3

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        facts: dict = {"height": self.height, "width": self.width}
        # Left out when empty: stores that were built before there were steps keep their digest.
        return facts | ({"preprocess": list(self.preprocess)} if self.preprocess else {})

    @classmethod
    def from_dict(cls, data: dict) -> "ImageSpec":
        """The spec that `to_dict` described."""
        steps = tuple(data.get("preprocess", ()))
        return cls(int(data["height"]), int(data["width"]), steps)


class UnreadableImage(Exception):
    """A file that gives no pixels; `.reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_image(source: ImageSource, spec: ImageSpec) -> np.ndarray:
    """Decode, turn upright, resize to cover the frame with the centre kept, and preprocess.

    EXIF orientation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, an
    animation gives its first frame, colour profiles are ignored. A picture that has the frame's
    scale already is cropped without any resampling. A JPEG at least four times larger than needed
    is decoded at a half, a quarter or an eighth of its size (never below twice the need), chosen
    from the file and `spec` alone, so that training and prediction agree. The steps of
    `spec.preprocess` come last, but for `border_crop`, which comes before the resize.

    Pixels that are in memory already are taken as they are: a Pillow image or an array that was
    read from a large JPEG at its full size can differ by a little from the file's own answer.

    Args:
        source: path or URL of a file, the file's bytes, a Pillow image (left as it is), or a uint8
            array (h, w, 3), RGB.
        spec: the frame.

    Returns:
        uint8 array (height, width, 3), RGB.

    Raises:
        UnreadableImage: missing, empty, truncated, too large, not an image, ...
    """
    try:
        if isinstance(source, np.ndarray):
            frame = _fitted(_as_picture(source), spec)
        elif isinstance(source, Image.Image):
            _check_size(source)
            frame = _fitted(source.copy(), spec)
        else:
            data = source if isinstance(source, bytes) else _read_bytes(source)
            _check_bytes(data)
            frame = _decode(io.BytesIO(data), spec)
        return preprocess_frame(frame, spec.preprocess)
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("not an image in a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(_too_large()) from None
    except MemoryError:
        raise UnreadableImage("not enough memory to decode it") from None
    # Pillow's plugins raise whatever a damaged file drives them into (SyntaxError, struct.error,
    # KeyError, ...); one bad file must not stop the rest.
    except Exception as error:
        raise UnreadableImage(first_line(error)[:160]) from None


def _check_bytes(data: bytes) -> None:
    if not data:
        raise UnreadableImage("the file is empty")
    if data.startswith(b"\x89HDF\r\n"):
        raise UnreadableImage("an HDF5 file of many images: name one in it as FILE.hdf5::ID")
    if data.startswith(b"\xff\xd8") and not _jpeg_is_whole(data):
        raise UnreadableImage("truncated JPEG: it has no end marker")


def _as_picture(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise UnreadableImage(
            "expected an array of uint8 (height, width, 3). "
            f"Received: {pixels.dtype} of shape {pixels.shape}"
        )
    return Image.fromarray(pixels)


def _read_bytes(source: str | os.PathLike) -> bytes:
    try:
        if is_url(source):
            return read_url(source)
        path = Path(source)
        if is_member(path):
            return read_member(path)
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UnreadableImage("a folder, not a file")
        if not stat.S_ISREG(kind):  # reading a pipe or a device might never end
            raise UnreadableImage("not a regular file")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("the file does not exist") from None
    except PermissionError:
        raise UnreadableImage("no permission to read the file") from None
    except MemberError as error:
        raise UnreadableImage(str(error)) from None
    except OSError as error:
        raise UnreadableImage(error.strerror or first_line(error)[:160]) from None


def _decode(stream: io.BytesIO, spec: ImageSpec) -> np.ndarray:
    with Image.open(stream, formats=IMAGE_FORMATS) as image:
        if image.format == "PNG":  # `load` leaves the checksums of the pixels unread
            with Image.open(io.BytesIO(stream.getvalue()), formats=("PNG",)) as unread:
                unread.verify()
        _check_size(image)
        if image.format in ("JPEG", "MPO"):
            _scale_while_decoding(image, spec)
        return _fitted(image, spec)


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(_too_large())


def _fitted(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """The pixels of an open image, upright and in the frame."""
    image.load()
    upright = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    if upright is not None:
        rgb = rgb.transpose(upright)
    if "border_crop" in spec.preprocess:
        rgb = rgb.crop(border_box(np.asarray(rgb)))
    return np.array(_cover(rgb, spec))  # a copy of its own, which may be written to


def _scale_while_decoding(image: Image.Image, spec: ImageSpec) -> None:
    # libjpeg's scaling is a crude filter: it stops at twice the frame and `_cover` does the rest.
    # `draft` keeps both sides at or above what it is asked for, so it acts from a factor of 4 on.
    width, height = 2 * spec.width, 2 * spec.height
    if "border_crop" in spec.preprocess:  # the part that is kept has to be twice the frame
        width, height = (math.ceil(side / SMALLEST_KEPT_SIDE) for side in (width, height))
    if _orientation(image) >= 5:
        width, height = height, width
    image.draft(None, (width, height))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block takes nothing from the pixels
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):
        return _grey16_to_rgb(np.asarray(image))
    if image.mode in ("RGBa", "La") or image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey16_to_rgb(grey: np.ndarray) -> Image.Image:
    # By the format's full range, not by the picture's, so that exposure is kept.
    if grey.min() < 0 or grey.max() > 65535:
        raise UnreadableImage("32-bit pixels have no agreed range")
    eight_bits = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(eight_bits).convert("RGB")


def _cover(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Resize to cover the frame and crop its centre, in one resample."""
    scale = min(image.width / spec.width, image.height / spec.height)
    if scale == 1:
        left, top = (image.width - spec.width) // 2, (image.height - spec.height) // 2
        return image.crop((left, top, left + spec.width, top + spec.height))
    # min: rounding must not push the box over the edge, which Pillow refuses.
    width = min(spec.width * scale, image.width)
    height = min(spec.height * scale, image.height)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (left, top, left + width, top + height)
    return image.resize((spec.width, spec.height), _FILTER, box=box)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the marker segments of a JPEG run to its end marker.

    Pillow raises when data ends early, but a download that was cut and padded with zeros, or cut
    inside the last rows, decodes to grey without a word. Source: ITU-T T.81, annex B.
    """
    position = 2
    while True:
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:
            return False
        code, position = data[marker.end() - 1], marker.end()
        if code == 0xD9:
            return True
        if code in (0x01, 0xD8):  # TEM and a stray start marker carry no length
            continue
        if position + 2 > len(data):
            return False
        (length,) = struct.unpack_from(">H", data, position)
        position += length


# Not stuffed zeros, fill bytes or restart markers, which belong to the compressed data.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


def _too_large() -> str:
    return f"more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels"
