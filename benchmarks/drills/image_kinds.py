"""What kinds of image files the drill of damaged inputs makes: the list that its modules fill."""

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

Expected = Literal["answer", "error", "either"]
Maker = Callable[[np.random.Generator, Image.Image], bytes]
# Kind -> what becomes of such a file, its suffix, and what makes it of a good picture.
KINDS: dict[str, tuple[Expected, str, Maker]] = {}


def kind(expected: Expected, suffix: str = ".jpg") -> Callable[[Maker], Maker]:
    """Enter a function into `KINDS` under its name; all draws are from the generator it is given.

    Args:
        expected: an answer, an error, or either of them.
        suffix: of the file's name.
    """

    def enter(function: Maker) -> Maker:
        KINDS[function.__name__.replace("_", " ")] = (expected, suffix, function)
        return function

    return enter


def encoded(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    """The bytes of an image file."""
    held = io.BytesIO()
    image.save(held, file_format, **options)
    return held.getvalue()
