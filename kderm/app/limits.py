"""How much the page takes in: bytes, pixels, files, and what a zip may unpack to.

Everything is refused by what the header says, before a pixel is decoded, in one sentence that says
what to do. Opens no model.
"""

import io
import warnings
from dataclasses import dataclass

from PIL import Image

from kderm.data.images import IMAGE_FORMATS

_MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        file_mb: megabytes of one picture.
        megapixels: of one picture, width times height.
        photos: pictures that are answered together on the first tab.
        images: pictures of one table on the second tab.
        upload_mb: megabytes of one upload, a zip or all files together.
        unpacked_mb: megabytes that all pictures may have together, zips opened.
        plain_megapixels: of one picture that is no JPEG, which cannot be decoded small.
        all_megapixels: of all pictures together.
        members: files that a zip may hold, pictures or not.
        held_mb: megabytes that uploads may have together while they wait to be asked about.
        waiting: requests that may wait for their turn.
    """

    file_mb: int = 30
    megapixels: int = 80
    photos: int = 12
    images: int = 300
    upload_mb: int = 500
    unpacked_mb: int = 1000
    plain_megapixels: int = 25
    all_megapixels: int = 4000
    members: int = 5000
    held_mb: int = 2000
    waiting: int = 20

    @property
    def file_bytes(self) -> int:
        """Bytes of one picture."""
        return self.file_mb * _MB

    @property
    def upload_bytes(self) -> int:
        """Bytes of one upload."""
        return self.upload_mb * _MB

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that all pictures may have together, zips opened."""
        return self.unpacked_mb * _MB

    @property
    def held_bytes(self) -> int:
        """Bytes that uploads may have together while they wait."""
        return self.held_mb * _MB


class Refused(Exception):
    """What the page does not take; its text is one sentence for the reader."""


def check_picture(data: bytes, limits: Limits) -> int:
    """Refuse bytes that are no picture, or too large a one; decodes nothing.

    Returns:
        its pixels.

    Raises:
        Refused: with the reason and what to do.
    """
    if not data:
        raise Refused("The file is empty. Choose another one.")
    if len(data) > limits.file_bytes:
        raise Refused(too_many_bytes(len(data), limits))
    try:
        # The bound here is lower than Pillow's own, which would warn or raise.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as picture:
                width, height = picture.size
                is_jpeg = picture.format in ("JPEG", "MPO")
    except Image.DecompressionBombError:
        raise Refused(_too_many_pixels("far more", limits.megapixels)) from None
    except Exception:  # whatever a damaged header drives Pillow into
        raise Refused(
            "This is not a picture that can be read. Use a JPEG or PNG file, and if it is one, "
            "copy it again: it may be damaged."
        ) from None
    most = limits.megapixels if is_jpeg else min(limits.plain_megapixels, limits.megapixels)
    if width * height > most * 1_000_000:
        raise Refused(_too_many_pixels(f"{width} × {height}", most))
    return width * height


def too_many_bytes(count: int, limits: Limits) -> str:
    """What to say of a picture of `count` bytes."""
    return (
        f"The file has {count / _MB:.0f} MB, and at most {limits.file_mb} MB are taken. Save it "
        "smaller, for example as a JPEG."
    )


def _too_many_pixels(received: str, most: int) -> str:
    return (
        f"The picture has too many pixels ({received}); at most {most} million are taken of its "
        "kind. Save it smaller, as a JPEG, or cut out the lesion."
    )
