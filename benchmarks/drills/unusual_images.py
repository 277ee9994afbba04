"""Image files that are whole and unusual: their formats, colours, pages, sizes, EXIF blocks, names.

Also sizes that only a header claims, and what lies in a folder and is no file.
"""

# ruff: noqa: D103 (the names say what is done)

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drills.image_kinds import Expected, encoded, kind

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


# Kinds that no content makes: (what becomes of it, function of the path that is to be there).
PLACES: dict[str, tuple[Expected, Callable[[Path, bytes], None]]] = {
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
