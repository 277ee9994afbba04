"""The images that a caller hands over, as the table that predictions are made from.

The first step of `kderm.api.loaded`, where `kderm.ensemble.inputs` is that of `ensemble-predict`.
Opens no image.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kderm.counting import counted
from kderm.data.datasets.columns import FACTS
from kderm.data.images import ImageSource
from kderm.ensemble.input_table import InputRow
from kderm.ensemble.inputs import Inputs, find_inputs, table_of
from kderm.errors import UserError, unknown_name
from kderm.labels import LabelSpace

Images = ImageSource | Sequence[ImageSource]
Metadata = pd.DataFrame | Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """Images to predict, and where each one's pixels come from.

    Attributes:
        inputs: one row an image; `path` is "" for images in memory.
        sources: for each row what `kderm.data.images.read_image` takes.
    """

    inputs: Inputs
    sources: list[ImageSource]

    def __len__(self) -> int:
        return len(self.sources)


def given_images(images: Images, labels: LabelSpace, metadata: Metadata | None = None) -> Given:
    """What the caller handed over, a row an image.

    Args:
        images: one path, which may be a folder, a CSV or a pattern as for `ensemble-predict`; or
            one image, or a sequence of them, in the order of the answers: paths of files, the bytes
            of files, Pillow images, uint8 arrays (h, w, 3), RGB, or one array (n, h, w, 3).
        labels: what class folders and label columns are resolved with.
        metadata: what is known of the images: some of `FACTS`, each one value for all or n values.

    Raises:
        UserError: a path that does not exist, no image at all, or metadata of other images.
    """
    if isinstance(images, (str, os.PathLike)):
        inputs = find_inputs([os.fspath(images)], labels)
        given = Given(inputs, inputs.table["path"].tolist())
    else:
        sources = listed_images(images)
        rows = [_row(number, source) for number, source in enumerate(sources)]
        asked = tuple(row.path for row in rows if row.path)
        given = Given(Inputs(table_of(rows), asked, 0, 0), sources)
    if metadata is None:
        return given
    table = given.inputs.table.assign(**_facts(metadata, len(given)))
    return Given(replace(given.inputs, table=table), given.sources)


def listed_images(images: Images) -> list[ImageSource]:
    """One image, a sequence of images or an array of them, as a list.

    Raises:
        UserError: no image, or something that is none.
    """
    if isinstance(images, (bytes, Image.Image)):
        return [images]
    if isinstance(images, np.ndarray):
        whole = images.ndim == 4 or images.dtype == object
        return list(images) if whole else [images]
    found = list(images)
    if not found:
        raise UserError("Expected at least one image. Received: an empty list.")
    for number, one in enumerate(found):
        if not isinstance(one, (str, os.PathLike, bytes, Image.Image, np.ndarray)):
            raise UserError(
                "Expected of each image a path, the bytes of a file, a Pillow image or a uint8 "
                f"array (height, width, 3). Received as number {number}: {type(one).__name__}."
            )
    return found


def _row(number: int, source: ImageSource) -> InputRow:
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        stem = os.path.splitext(os.path.basename(path))[0]
        return InputRow(path, tuple(filter(None, (stem, path))), "", None, {})
    return InputRow("", (f"image_{number}",), "", None, {})


def _facts(metadata: Metadata, count: int) -> dict[str, list[str]]:
    """Columns of the table, as text, "" where not known."""
    if not isinstance(metadata, (pd.DataFrame, Mapping)):
        raise UserError(
            "Expected metadata as a table or a mapping with the columns "
            f"{', '.join(FACTS)}, or some. Received: {type(metadata).__name__}."
        )
    found = {}
    for name in metadata:
        if name not in FACTS:
            raise unknown_name("column of metadata", str(name), FACTS)
        values = metadata[name]
        if np.ndim(values) == 0:
            values = [values] * count
        if len(values) != count:
            raise UserError(
                f"Expected metadata for each of {counted(count, 'image')}. Received: "
                f"{counted(len(values), 'value')} of {name!r}."
            )
        found[name] = ["" if pd.isna(value) else str(value) for value in values]
    return found
