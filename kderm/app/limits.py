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
        unpacked_mb: megabytes that a zip's pictures may have together.
        waiting: requests that may wait for their turn.
    """

    file_mb: int = 30
    megapixels: int = 80
    photos: int = 12
    images: int = 300
    upload_mb: int = 500
    unpacked_mb: int = 1000
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
        """Bytes that a zip's pictures may have together."""
        return self.unpacked_mb * _MB


class Refused(Exception):
    """What the page does not take; its text is one sentence for the reader."""


def check_picture(data: bytes, limits: Limits) -> None:
    """Refuse bytes that are no picture, or too large a one; decodes nothing.

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
    except Image.DecompressionBombError:
        raise Refused(_too_many_pixels("far more", limits)) from None
    except Exception:  # whatever a damaged header drives Pillow into
        raise Refused(
            "This is not a picture that can be read. Use a JPEG or PNG file, and if it is one, "
            "copy it again: it may be damaged."
        ) from None
    if width * height > limits.megapixels * 1_000_000:
        raise Refused(_too_many_pixels(f"{width} × {height}", limits))


def too_many_bytes(count: int, limits: Limits) -> str:
    """What to say of a picture of `count` bytes."""
    return (
        f"The file has {count / _MB:.0f} MB, and at most {limits.file_mb} MB are taken. Save it "
        "smaller, for example as a JPEG."
    )


def _too_many_pixels(received: str, limits: Limits) -> str:
    return (
        f"The picture has too many pixels ({received}); at most {limits.megapixels} million are "
        "taken. Save it smaller, or cut out the lesion."
    )
