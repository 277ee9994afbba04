"""Which images of a run are shown, and their pixels as the network saw them.

Reads the run's tables, and its image store or, where that is gone, the files. Knows no model.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.manifest import Manifest
from kderm.data.run_store import open_run_store
from kderm.errors import UserError
from kderm.evaluation.predictions import Predictions
from kderm.run_dir import RunDir


def choose_examples(oof: Predictions) -> pd.DataFrame:
    """One image a class: the most confident right answer, else the likeliest of its images.

    Ties go to the first image in the table, so the same table gives the same images.

    Args:
        oof: out-of-fold predictions.

    Returns:
        A row for each class that has images, in label-space order: class (the code), image_id,
        fold (of the member that did not see it), label (the class again), predicted (code),
        probability (of the class, out of fold), right (bool).
    """
    probabilities = oof.probabilities
    predicted = probabilities.argmax(axis=1)
    rows = []
    for index, code in enumerate(oof.labels.codes):
        of_class = np.flatnonzero(oof.y == index)
        if not len(of_class):
            continue
        right = of_class[predicted[of_class] == index]
        candidates = right if len(right) else of_class
        best = candidates[probabilities[candidates, index].argmax()]
        rows.append(
            {
                "class": code,
                "image_id": oof.table["image_id"][best],
                "fold": oof.folds[best],
                "label": code,
                "predicted": oof.labels.codes[predicted[best]],
                "probability": probabilities[best, index],
                "right": bool(len(right)),
            }
        )
    return pd.DataFrame(rows)


SECTIONS = (
    "Right, the surest first",
    "Missed: {code}, taken for something else; the surest mistakes first",
    "Taken for {code} by mistake, the surest first",
)


def choose_for_sheets(oof: Predictions, each: int) -> pd.DataFrame:
    """What the sheet of each class shows: right answers, misses and false alarms, the surest first.

    Of a lesion that was photographed several times one image is taken a section. Ties go to the
    first image in the table, so the same table gives the same sheets.

    Args:
        oof: out-of-fold predictions.
        each: images a section at most.

    Returns:
        A row an image and section: sheet (the class's code), section (0, 1, 2, see `SECTIONS`),
        position (the row of the out-of-fold table).
    """
    probabilities, y, groups = oof.probabilities, oof.y, oof.groups
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    rows = []
    for index, code in enumerate(oof.labels.codes):
        of_class, called = y == index, predicted == index
        for section, chosen in enumerate(
            (of_class & called, of_class & ~called, called & ~of_class)
        ):
            at = np.flatnonzero(chosen)
            at = at[np.argsort(-sure[at], kind="stable")]
            _, first = np.unique(groups[at].astype(str), return_index=True)
            for position in at[np.sort(first)][:each]:
                rows.append({"sheet": code, "section": section, "position": int(position)})
    return pd.DataFrame(rows, columns=["sheet", "section", "position"])


def read_frames(
    run: RunDir, manifest: Manifest, image_ids: list[str], spec: ImageSpec
) -> np.ndarray:
    """The frames that training read: from the run's store, or decoded again in the same way.

    Returns:
        uint8 array (n, H, W, 3).

    Raises:
        UserError: the store is gone and a file cannot be read.
    """
    store = open_run_store(run, spec)
    if store is not None and set(image_ids) <= set(store.image_ids):
        return np.stack([store.images[row] for row in store.rows(image_ids)])
    paths = image_paths(manifest, image_ids)
    return np.stack([_decode(path, spec, run) for path in paths])


def read_pictures(
    manifest: Manifest, image_ids: list[str], spec: ImageSpec, frames: np.ndarray, side: int
) -> list[np.ndarray]:
    """What the network's plain view shows, at about `side` pixels for the eye.

    From the files, because stored frames are small; where a file is gone, from its frame.

    Args:
        manifest: names the files.
        image_ids: n images.
        spec: the frame; its proportions and its preprocessing are kept.
        frames: uint8 (n, H, W, 3), of the same images.
        side: the shorter side of what is decoded, pixels.

    Returns:
        n square uint8 arrays (s, s, 3).
    """
    paths = image_paths(manifest, image_ids)
    return [_centre_square(one) for one in large_frames(paths, spec, frames, side)]


def large_frames(
    paths: Sequence[str], spec: ImageSpec, frames: np.ndarray, side: int
) -> list[np.ndarray]:
    """Whole frames at about `side` pixels for the eye, uint8 (H', W', 3).

    Args:
        paths: n files; where one is gone, its frame is taken.
        spec: the frame; its proportions and its preprocessing are kept.
        frames: uint8 (n, H, W, 3), of the same images.
        side: the shorter side of what is decoded, pixels.
    """
    scale = max(1.0, side / min(spec.height, spec.width))
    large = ImageSpec(round(spec.height * scale), round(spec.width * scale), spec.preprocess)
    pictures = []
    for path, frame in zip(paths, frames, strict=True):
        try:
            pictures.append(read_image(path, large))
        except UnreadableImage:
            pictures.append(frame)
    return pictures


def image_paths(manifest: Manifest, image_ids: list[str]) -> list[str]:
    """The files of a run's images, in the order asked for."""
    paths = manifest.table.set_index("image_id")["path"]
    unknown = [image_id for image_id in image_ids if image_id not in paths.index]
    if unknown:
        raise UserError(
            "The out-of-fold table and the manifest of a run must speak of the same images. "
            f"Received ids that the manifest lacks: {', '.join(unknown[:5])}. Copy the run again."
        )
    return paths.loc[image_ids].tolist()


def _decode(path: str, spec: ImageSpec, run: RunDir) -> np.ndarray:
    try:
        return read_image(path, spec)
    except UnreadableImage as error:
        raise UserError(
            f"The image {path} cannot be read ({error.reason}; looked from {Path.cwd()}), and the "
            "run's image store is gone. Work in the folder that the run was started from, with "
            f"the images in their place, or build the store again with: {run.command('prepare')}"
        ) from None


def _centre_square(picture: np.ndarray) -> np.ndarray:
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]
