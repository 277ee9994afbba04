"""From pictures in memory to what the page shows: answers, maps, warnings, one lesion of several.

Asks `kderm.api.loaded.LoadedEnsemble`, so a row here is the row that Python or `ensemble-predict`
gives. Knows no page; holds no picture longer than it is asked for one.
"""

import io
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from kderm.api.loaded import LoadedEnsemble
from kderm.app.doubts import WORDS, doubts
from kderm.app.uploads import Upload
from kderm.ensemble.result_table import reached_points
from kderm.evaluation.decisions.points import FrozenPoint
from kderm.html_page import data_uri

LESION = "the lesion"
# Shorter side of the pictures shown, pixels.
SIDE = 360
_QUALITY = 85
# Large photos take hundreds of megabytes while they are decoded, and the page serves others too.
_DECODED_AT_ONCE = 2
# Pictures of a table between two looks at how far it is.
_AT_A_TIME = 16
_NO_MAP = "The map of what speaks for this answer could not be drawn."


@dataclass(frozen=True)
class Shown:
    """The picture of an answer and its map, as they are shown.

    Attributes:
        picture, overlay: JPEG files as data URIs, upright and without EXIF.
        target: code of the class that the map is for.
        flags: what is odd about where the evidence lies.
    """

    picture: str
    overlay: str
    target: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What is said of one picture, or of one lesion.

    Attributes:
        name: of the picture, as it was sent.
        row: its row of predictions.csv, or of lesions.csv; empty where there is no answer.
        reached: names of the operating points that it reaches.
        shown: its picture and map; None for a lesion, or where there is no answer or no map.
        warnings: why to doubt it, a sentence each.
        error: why there is no answer; "" where there is one.
    """

    name: str
    row: dict[str, Any]
    reached: frozenset[str] = frozenset()
    shown: Shown | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Answered:
    """All that is said of one request.

    Attributes:
        photos: one answer a picture, in their order.
        lesion: one answer to all of them together, for a reader who says that they show one spot;
            None where fewer than two have an answer.
        notes: what was passed over, and what weakens all answers, a sentence each.
    """

    photos: tuple[Answer, ...]
    lesion: Answer | None
    notes: tuple[str, ...] = ()


def answer_photos(
    ensemble: LoadedEnsemble,
    pictures: Sequence[Upload],
    *,
    metadata: dict[str, Any] | None = None,
) -> Answered:
    """Answer pictures one by one, and together as if they showed one lesion.

    Args:
        ensemble: who answers.
        pictures: what was sent; refused ones get the sentence that refuses them.
        metadata: age, sex and site, the same for all, where the ensemble looks at them.
    """
    readable = [picture for picture in pictures if not picture.problem]
    if not readable:
        refused = tuple(Answer(one.name, {}, error=one.problem) for one in pictures)
        return Answered(refused, None)
    answers = ensemble.answer(
        [picture.data for picture in readable],
        metadata={**(metadata or {}), "lesion_id": LESION},
        threads=_DECODED_AT_ONCE,
    )
    rows = iter(answers.table.to_dict("records"))
    photos = []
    for picture in pictures:
        if picture.problem:
            photos.append(Answer(picture.name, {}, error=picture.problem))
        else:
            photos.append(_photo(ensemble, picture, next(rows), metadata))
    several = sum(not photo.error for photo in photos) > 1
    return Answered(tuple(photos), _lesion(ensemble, answers.lesions) if several else None)


def answer_table(
    ensemble: LoadedEnsemble,
    pictures: Sequence[Upload],
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    """The rows of predictions.csv for many pictures, refused ones among them with their reason.

    Args:
        ensemble: who answers.
        pictures: what was sent.
        progress: called with (pictures done, all).
    """
    parts = []
    for start in range(0, len(pictures), _AT_A_TIME):
        progress(start, len(pictures))
        some = pictures[start : start + _AT_A_TIME]
        parts.append(ensemble.predict([picture.data for picture in some]))
    progress(len(pictures), len(pictures))
    return as_sent(pd.concat(parts, ignore_index=True), pictures)


def as_sent(table: pd.DataFrame, pictures: Sequence[Upload]) -> pd.DataFrame:
    """The rows of pictures, by the names that these were sent under.

    A refused one has no bytes, which is an unreadable image; its row tells why it was refused.
    """
    names = [picture.name for picture in pictures]
    table = table.assign(path=names, image_id=image_ids(names))
    refused = [bool(picture.problem) for picture in pictures]
    table.loc[refused, "error"] = [picture.problem for picture in pictures if picture.problem]
    return table


def image_ids(names: Sequence[str]) -> list[str]:
    """A file's stem where it is unique, else its whole name, numbered where even that is not."""
    stems = [PurePosixPath(name).stem for name in names]
    found, seen = [], set()
    for name, stem in zip(names, stems, strict=True):
        own = stem if stems.count(stem) == 1 else name
        number = 2
        while own in seen:
            own, number = f"{name} ({number})", number + 1
        seen.add(own)
        found.append(own)
    return found


def flag_of(answer: Answer, point: FrozenPoint | None) -> bool | None:
    """Whether the answer is flagged at the point; None where there is no point or no answer."""
    if point is None or answer.error:
        return None
    return point.name in answer.reached


def _photo(
    ensemble: LoadedEnsemble, picture: Upload, row: dict[str, Any], metadata: dict[str, Any] | None
) -> Answer:
    if row["error"]:
        words = f"This picture cannot be read: {row['error']}. Take it again, or save it anew."
        return Answer(picture.name, {}, error=words)
    warnings = tuple(WORDS[doubt] for doubt in doubts(picture.data, row))
    shown = _shown(ensemble, picture, row, metadata)
    return Answer(
        picture.name,
        row,
        reached=frozenset(row["operating_points"].split()),
        shown=shown,
        warnings=warnings if shown else (*warnings, _NO_MAP),
    )


def _shown(
    ensemble: LoadedEnsemble, picture: Upload, row: dict[str, Any], metadata: dict[str, Any] | None
) -> Shown | None:
    """The picture and its map; None where it cannot be drawn, which takes nothing from the rest."""
    try:
        found = ensemble.explain(picture.data, answer=pd.Series(row), metadata=metadata, side=SIDE)
    except Exception:  # the reader gets a sentence, the terminal the reason
        traceback.print_exc()
        return None
    return Shown(as_jpeg(found.frame), as_jpeg(found.overlay()), found.target, tuple(found.flags))


def _lesion(ensemble: LoadedEnsemble, lesions: pd.DataFrame) -> Answer:
    row = lesions.iloc[0].to_dict()
    probabilities = lesions[ensemble.labels.columns].to_numpy(np.float64)
    points = reached_points(ensemble.bundle, probabilities)
    return Answer(LESION, row, reached=frozenset(points[0].split()))


def as_jpeg(picture: np.ndarray) -> str:
    """uint8 (h, w, 3) as a JPEG that stands in the page itself: no file, no EXIF."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY)
    return data_uri(file.getvalue(), "image/jpeg")
