"""Pictures to try the page with: drawn by the demo's generator, no photographs of anybody."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from kderm.data.datasets.demo_drawing import draw_lesion, draw_photo, render

# Class that it is drawn after, number of the drawing: chosen to look apart from each other.
_DRAWINGS = (("nv", 3), ("mel", 1), ("bkl", 2), ("vasc", 4))
_HEIGHT = 300


@dataclass(frozen=True)
class Example:
    """A drawn picture.

    Attributes:
        name: what it is called.
        data: a JPEG file's bytes.
    """

    name: str
    data: bytes


def draw_examples() -> list[Example]:
    """The example pictures, the same every time."""
    return [
        Example(f"drawing {number}", _draw(code, seed))
        for number, (code, seed) in enumerate(_DRAWINGS, start=1)
    ]


def _draw(code: str, seed: int) -> bytes:
    lesion = draw_lesion(np.random.default_rng([seed, 1]), code)
    photo = draw_photo(np.random.default_rng([seed, 2]))
    file = io.BytesIO()
    Image.fromarray(render(lesion, photo, _HEIGHT)).save(file, "JPEG", quality=90)
    return file.getvalue()
