"""Damaged and unusual image files, made from good ones.

`KINDS` maps a kind to what becomes of it (an answer, an error, or either of them) and to the
function that makes the file. All draws come from the generator that is given.
"""

# ruff: noqa: D103 (the names say what is done)

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

Expected = Literal["answer", "error", "either"]
Maker = Callable[[np.random.Generator, Image.Image], bytes]
KINDS: dict[str, tuple[Expected, str, Maker]] = {}
# Kinds that no content makes: (what becomes of it, function of the path that is to be there).
PLACES: dict[str, tuple[Expected, Callable[[Path, bytes], None]]] = {}


def kind(expected: Expected, suffix: str = ".jpg") -> Callable[[Maker], Maker]:
    """Enter a function into `KINDS` under its name."""

    def enter(function: Maker) -> Maker:
        KINDS[function.__name__.replace("_", " ")] = (expected, suffix, function)
        return function

    return enter


def encoded(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    held = io.BytesIO()
    image.save(held, file_format, **options)
    return held.getvalue()


# === Cut, flipped, overwritten ===


@kind("error")
def truncated_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, quality=92)
    return content[: int(rng.integers(1, len(content) - 2))]


@kind("error")
def truncated_progressive_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, progressive=True)
    return content[: int(rng.integers(1, len(content) - 2))]


@kind("error")
def jpeg_cut_and_filled_with_zeros(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image)
    kept = int(rng.integers(2, len(content) - 50))
    return content[:kept] + b"\0" * (len(content) - kept)


@kind("error", ".png")
def truncated_png(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "PNG")
    return content[: int(rng.integers(1, len(content) - 13))]


@kind("error", ".webp")
def truncated_webp(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "WEBP")
    return content[: int(rng.integers(1, len(content) - 20))]


@kind("either", ".tif")
def truncated_tiff(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "TIFF")
    return content[: int(rng.integers(1, len(content) - 1))]


@kind("either", ".gif")
def truncated_gif(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "GIF")
    return content[: int(rng.integers(1, len(content) - 1))]


@kind("error", ".bmp")
def truncated_bmp(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "BMP")
    return content[: int(rng.integers(1, len(content) - 4 * image.width))]


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


# === Another format than the name says ===


@kind("answer")
def a_png_named_jpg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, "PNG")


@kind("answer", ".png")
def a_jpeg_named_png(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image)


@kind("answer", ".JPEG")
def a_webp_named_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, "WEBP")


# === Colours ===


@kind("answer")
def cmyk(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.convert("CMYK"))


@kind("answer")
def grey(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.convert("L"))


@kind("answer", ".png")
def grey_of_16_bits(rng: np.random.Generator, image: Image.Image) -> bytes:
    values = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(values), "PNG")


@kind("answer", ".tif")
def grey_of_16_bits_in_tiff(rng: np.random.Generator, image: Image.Image) -> bytes:
    values = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(values), "TIFF")


@kind("error", ".tif")
def grey_of_floating_point(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.convert("F"), "TIFF")


@kind("either", ".tif")
def grey_of_32_bits(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.int32) << 20), "TIFF")


@kind("answer", ".png")
def black_and_white(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.convert("1"), "PNG")


@kind("answer", ".png")
def palette(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.quantize(32), "PNG")


@kind("answer", ".png")
def palette_with_transparency(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.quantize(32), "PNG", transparency=3)


@kind("answer", ".png")
def transparent(rng: np.random.Generator, image: Image.Image) -> bytes:
    image = image.convert("RGBA")
    image.putalpha(int(rng.integers(0, 256)))
    return encoded(image, "PNG")


@kind("answer", ".png")
def transparent_grey(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.convert("LA"), "PNG")


@kind("answer")
def a_damaged_colour_profile(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, icc_profile=rng.bytes(500))


# === Several pictures ===


@kind("answer", ".gif")
def animated_gif(rng: np.random.Generator, image: Image.Image) -> bytes:
    others = [image.rotate(turn) for turn in (90, 180)]
    return encoded(image, "GIF", save_all=True, append_images=others)


@kind("answer", ".webp")
def animated_webp(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, "WEBP", save_all=True, append_images=[image.rotate(180)])


@kind("answer", ".png")
def animated_png(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, "PNG", save_all=True, append_images=[image.rotate(180)])


@kind("answer", ".tif")
def tiff_of_two_pages(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, "TIFF", save_all=True, append_images=[image.rotate(180)])


# === Sizes ===


@kind("answer", ".png")
def one_pixel(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.resize((1, 1)), "PNG")


@kind("answer", ".png")
def one_row(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.resize((5000, 1)), "PNG")


@kind("answer", ".png")
def one_column(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image.resize((1, 5000)), "PNG")


@kind("error", ".png")
def a_png_header_of_20000_pixels(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "PNG")
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@kind("error")
def a_jpeg_header_of_20000_pixels(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = bytearray(encoded(image))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 20_000, 20_000)
    return bytes(content)


@kind("error", ".bmp")
def a_bmp_header_of_20000_pixels(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = bytearray(encoded(image, "BMP"))
    content[18:26] = struct.pack("<ii", 20_000, 20_000)
    return bytes(content)


@kind("error", ".png")
def a_real_png_of_20000_pixels(rng: np.random.Generator, image: Image.Image) -> bytes:
    return _blank_png(20_000)


def _blank_png(side: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    packer, rows = zlib.compressobj(1), []
    row = bytes(1 + side // 8)
    for _ in range(0, side, 100):
        rows.append(packer.compress(row * 100))
    rows.append(packer.flush())
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"".join(rows))
        + chunk(b"IEND", b"")
    )


@kind("either", ".png")
def a_text_in_a_png_that_unfolds(rng: np.random.Generator, image: Image.Image) -> bytes:
    content = encoded(image, "PNG")
    text = b"zTXtcomment\0\0" + zlib.compress(bytes(300 * 2**20), 1)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return content[:33] + chunk + content[33:]


# === EXIF ===


@kind("answer")
def turned_by_exif(rng: np.random.Generator, image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(2, 9))
    return encoded(image, exif=exif)


@kind("answer")
def an_exif_turn_that_is_none(rng: np.random.Generator, image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(9, 200))
    return encoded(image, exif=exif)


@kind("answer")
def a_damaged_exif_block(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image, exif=b"Exif\0\0" + rng.bytes(200))


@kind("answer")
def more_bytes_behind_a_jpeg(rng: np.random.Generator, image: Image.Image) -> bytes:
    return encoded(image) + rng.bytes(300)


# === What is no file, or none that may be read ===


def _folder(path: Path, content: bytes) -> None:
    path.mkdir()


def _pipe(path: Path, content: bytes) -> None:
    os.mkfifo(path)


def _closed(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0)


PLACES |= {
    "a folder named jpg": ("error", _folder),
    "a pipe": ("error", _pipe),
    "a link to nothing": ("error", lambda path, content: path.symlink_to("gone.jpg")),
    "a link to itself": ("error", lambda path, content: path.symlink_to(path.name)),
    "a device": ("error", lambda path, content: path.symlink_to("/dev/zero")),
    "no right to read": ("error", _closed),
    "a file that is not there": ("error", lambda path, content: None),
}

# File names that hold a good picture.
NAMES = (
    *("影 皮膚病変 ñ é.jpg", "a" * 251 + ".jpg", "ö" * 125 + ".jpg", " space at both ends .jpg"),
    *("-o.jpg", "a,b;c.jpg", "quo\"te's.jpg", "new\nline.jpg", "tab\there.jpg", "=1+1.jpg"),
    *("100%.jpg", "#1.jpg", "[x].jpg", "*.jpg", "?.jpg", "~.jpg", "a\\b.jpg", "$HOME.jpg"),
    *("NA.jpg", "nan.jpg", "0012.jpg", "1e5.jpg", "ISIC_0000001_downsampled.JPG", "a.b.c.jpg"),
    *("\u202egpj.exe.jpg", "e\u0301.jpg", "\u00e9.jpg", "<b>bold<b>.jpg", "dot..jpg"),
)
