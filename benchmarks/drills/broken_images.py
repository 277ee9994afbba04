"""Image files that are broken: cut, with bits flipped, overwritten, or nothing of the kind."""

# ruff: noqa: D103 (the names say what is done)

import numpy as np
from PIL import Image

from benchmarks.drills.image_kinds import encoded, kind


def _cut(rng: np.random.Generator, content: bytes, *, missing: int) -> bytes:
    """The beginning of a file; its last `missing` bytes, in which something is, go at least."""
    return content[: int(rng.integers(1, len(content) - missing))]


@kind("error")
def truncated_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, quality=92), missing=2)


@kind("error")
def truncated_progressive_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, progressive=True), missing=2)


@kind("error")
def jpeg_cut_and_filled_with_zeros(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image)
    kept = int(rng.integers(2, len(content) - 50))
    return content[:kept] + b"\0" * (len(content) - kept)


@kind("error", ".png")
def truncated_png(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, "PNG"), missing=13)


@kind("error", ".webp")
def truncated_webp(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, "WEBP"), missing=20)


@kind("either", ".tif")
def truncated_tiff(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, "TIFF"), missing=1)


@kind("either", ".gif")
def truncated_gif(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, "GIF"), missing=1)


@kind("error", ".bmp")
def truncated_bmp(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _cut(rng, encoded(image, "BMP"), missing=4 * image.width)


def _flipped(rng: np.random.Generator, content: bytes, bits: int) -> bytes:
    changed = np.frombuffer(content, np.uint8).copy()
    for place in rng.integers(0, len(changed), bits):
        changed[place] ^= 1 << int(rng.integers(8))
    return changed.tobytes()


@kind("either")
def one_bit_flipped_in_a_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image), 1)


@kind("either")
def a_hundred_bits_flipped_in_a_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image), 100)


@kind("either", ".png")
def bits_flipped_in_a_png(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image, "PNG"), int(rng.integers(1, 20)))


@kind("either", ".tif")
def bits_flipped_in_a_tiff(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "TIFF", compression="tiff_lzw")
    return _flipped(rng, content, int(rng.integers(1, 40)))


@kind("either", ".webp")
def bits_flipped_in_a_webp(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image, "WEBP"), int(rng.integers(1, 20)))


@kind("either", ".jp2")
def bits_flipped_in_a_jpeg_2000(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image, "JPEG2000"), int(rng.integers(1, 20)))


@kind("either", ".gif")
def bits_flipped_in_a_gif(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _flipped(rng, encoded(image, "GIF"), int(rng.integers(1, 20)))


@kind("either")
def a_block_of_zeros_in_a_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = bytearray(encoded(image))
    start = int(rng.integers(0, len(content) - 300))
    content[start : start + 256] = bytes(256)
    return bytes(content)


@kind("error")
def a_jpeg_without_its_first_bytes(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image)[int(rng.integers(1, 40)) :]


@kind("error", ".png")
def a_png_with_another_checksum(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = bytearray(encoded(image, "PNG"))
    content[-20] ^= 0xFF  # the end of the last chunk of pixels
    return bytes(content)


@kind("error")
def zero_bytes(rng: np.random.Generator, image: Image.Image) -> bytes:
    return b""


@kind("error")
def one_byte(rng: np.random.Generator, image: Image.Image) -> bytes:
    return b"\xff"


@kind("error")
def noise(rng: np.random.Generator, image: Image.Image) -> bytes:
    return rng.bytes(5000)


@kind("error")
def an_error_page_of_a_server(rng: np.random.Generator, image: Image.Image) -> bytes:
    return b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


@kind("error", ".png")
def a_drawing_in_svg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'
