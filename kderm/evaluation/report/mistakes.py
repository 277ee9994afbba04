"""The most confident mistakes of each class, with their pictures where they are at hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.document import (
    Block,
    Gallery,
    Heading,
    Section,
    Shown,
    Table,
    Text,
)
from kderm.evaluation.report.wording import whole_percent

A_CLASS = 6
# Ids in, pictures uint8 (h, w, 3) out, by id; what cannot be had is left out.
Pictures = Callable[[Sequence[str]], dict[str, np.ndarray]]


def confident_mistakes(predictions: Predictions, a_class: int = A_CLASS) -> pd.DataFrame:
    """Of each true class the images whose wrong answer was the surest, one image a group.

    Returns:
        Columns image_id, group_id, label, predicted, probability (of the wrong answer),
        of_truth (of the right one); classes in label-space order, surest first.
    """
    codes, probabilities, y = predictions.labels.codes, predictions.probabilities, predictions.y
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(y))
    table = pd.DataFrame(
        {
            "image_id": predictions.table["image_id"],
            "group_id": predictions.table["group_id"],
            "label": np.array(codes, dtype=object)[y],
            "predicted": np.array(codes, dtype=object)[best],
            "probability": probabilities[rows, best],
            "of_truth": probabilities[rows, y],
            "position": y,
        }
    )[best != y]
    table = table.sort_values(
        ["position", "probability", "image_id"], ascending=[True, False, True]
    )
    table = table.drop_duplicates(["label", "group_id"]).groupby("label", sort=False).head(a_class)
    return table.drop(columns="position").reset_index(drop=True)


def mistakes_section(
    predictions: Predictions,
    mistakes: pd.DataFrame,
    *,
    pictures: Pictures | None,
    overlays: Pictures | None,
) -> Section:
    """A gallery a class.

    Args:
        predictions: what was scored.
        mistakes: of `confident_mistakes`.
        pictures: brings the images, or None.
        overlays: brings them with what speaks for the predicted class, or None.
    """
    if mistakes.empty:
        return Section("Errors", [Text("No image was given a wrong class.")])
    ids = mistakes["image_id"].tolist()
    found = pictures(ids) if pictures else {}
    maps = overlays(ids) if overlays and found else {}
    words = (
        f"Of each class the (up to {A_CLASS}) lesions whose wrong answer was the surest. They are "
        "chosen for being wrong: a look at the failures, not a sample of the work."
    )
    if maps:
        words += " Beside each picture, what spoke for the wrong answer."
    if pictures and not found:
        words += " Their files are not where the run found them, so they are listed, not shown."
    blocks: list[Block] = [Text(words)]
    for code, own in mistakes.groupby("label", sort=False):
        name = predictions.labels.names[predictions.labels.index(code)]
        blocks.append(Heading(name if name == code else f"{name} ({code})"))
        if found:
            shown = [_shown(row, predictions, found, maps) for row in own.itertuples()]
            blocks.append(Gallery(shown))
    header = ["image", "truth", "answer", "probability of the answer", "of the truth"]
    rows = [
        [row.image_id, row.label, row.predicted, row.probability, row.of_truth]
        for row in mistakes.itertuples()
    ]
    if not found:
        blocks = [block for block in blocks if not isinstance(block, Heading)]
    return Section("Errors", [*blocks, Table(header, rows, "confident_mistakes", "As a table")])


def _shown(
    row, predictions: Predictions, found: dict[str, np.ndarray], maps: dict[str, np.ndarray]
) -> Shown:
    labels = predictions.labels
    taken_for = labels.names[labels.index(row.predicted)].lower()
    caption = (
        f"Taken for {taken_for} with {whole_percent(row.probability)}; the truth, {row.label}, got "
        f"{whole_percent(row.of_truth)}. {row.image_id}"
    )
    return Shown(caption, found.get(row.image_id), maps.get(row.image_id))
