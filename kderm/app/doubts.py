"""Why to doubt the answer to one picture: its quality, and how unlike the training data it is.

The measures are those of `inspect` (`kderm.inspection.quality`), there told against the rest of a
data set; here is one picture alone, so blur is told against a fixed bound. Sees pixels and one row.
"""

from collections.abc import Mapping
from typing import Any

from kderm.data.images import ImageSource, ImageSpec, UnreadableImage, read_image
from kderm.inspection.quality import measure

# Sharpness depends on the size it is measured at, so this one is the same for every ensemble.
_FRAME = ImageSpec(150, 200)
# Of 200 photographs of HAM10000 0.5 % lie below, of the same blurred by a Gaussian of 1 % of their
# height 64 %, by one of 2 % 83 %; of 100 of ISIC UDA-1 none, 88 % and 95 %.
LEAST_SHARPNESS = -2.1
_MOST_DARK_CORNERS, _MOST_HAIR, _LEAST_LIGHT, _MOST_LIGHT = 0.5, 0.1, 50.0, 225.0

WORDS = {
    "blurred": "The picture looks blurred. Take it again, in focus and with a steady hand.",
    "dark corners": "The corners are dark. The ensemble may look at them instead of the lesion.",
    "hair": "Hair covers part of the picture.",
    "too dark": "The picture is very dark.",
    "too bright": "The picture is very bright.",
    "bluer than red": "The colours are odd for skin: bluer than red.",
    "unlike": (
        "This picture looks unlike those that the ensemble learnt from. What is said of it is a "
        "guess, however sure it looks."
    ),
}


def doubts(source: ImageSource, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of `WORDS` that hold for a picture.

    Args:
        source: the picture, as `read_image` takes it.
        row: its row of predictions.csv.
    """
    found = ["unlike"] if row.get("unlike_training") == 1 else []
    try:
        frame = read_image(source, _FRAME)
    except UnreadableImage:
        return tuple(found)
    quality = measure(frame[None], [0]).iloc[0]
    holds = {
        "blurred": quality["sharpness"] < LEAST_SHARPNESS,
        "dark corners": quality["dark_corners"] >= _MOST_DARK_CORNERS,
        "hair": quality["hair"] >= _MOST_HAIR,  # NaN without OpenCV: never
        "too dark": quality["brightness"] < _LEAST_LIGHT,
        "too bright": quality["brightness"] > _MOST_LIGHT,
        "bluer than red": quality["redness"] < 0,
    }
    return tuple(found + [name for name, found_here in holds.items() if found_here])
