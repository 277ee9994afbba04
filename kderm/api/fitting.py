"""From images, labels and groups in memory to a trained run: what the estimator's `fit` does.

Arrays become PNG files, which keep every pixel, and a table beside them, so that the run is one of
the data set "table" like any other.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ExifTags, Image

from kderm import console
from kderm.api.datasets import is_ungrouped, load_dataset, split
from kderm.api.fit_input import Targets, WrongInput
from kderm.api.packed import PackedEnsemble
from kderm.api.runs import exclusive_run, run_place, train_held
from kderm.atomic import atomic_path, write_csv, write_json
from kderm.config.reading import as_overrides, load_config
from kderm.data.images import ImageSource, ImageSpec, UnreadableImage, read_image
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.image_files import size_and_time
from kderm.leftovers import temporary_beside
from kderm.run_dir import RunDir, runs_at

UNGROUPED = (
    "No groups are given, so each image is a group of its own: photographs of one lesion may lie "
    "in different folds, and oof_proba_ and the calibration would look better than they are. Give "
    "groups=, the lesion or the patient that each image shows."
)
TABLE, IMAGES, RECORD = "images.csv", "images", "fit.json"


@dataclass(frozen=True)
class Fitted:
    """A run that is finished.

    Attributes:
        path: its folder, which may be gone already.
        packed: its ensemble.
        oof: its out-of-fold table.
        answers: float64 (n, k), the same answers in the order of the images.
    """

    path: Path
    packed: PackedEnsemble
    oof: pd.DataFrame
    answers: np.ndarray


def fit_run(
    images: list[ImageSource],
    targets: Targets,
    groups: Sequence | None,
    *,
    settings: Mapping[str, Any],
    run: str | None,
    jobs: int,
    verbose: bool,
) -> Fitted:
    """Train a run on images in memory.

    Args:
        images: n images.
        targets: what they show.
        groups: n ids, or None.
        settings: options by their keys.
        run: name or path of the run; None for a temporary folder that is gone afterwards.
        jobs: folds at a time.
        verbose: whether to print.

    Raises:
        UserError: anything wrong, or a named run of other images.
    """
    _refuse_missing(images)
    ids = _ids(images)
    groups = _groups(groups, ids)
    # One lock over all: a second fit would replace the pictures that the first is trained on.
    with console.quiet(not verbose), _folder(run, settings) as place, exclusive_run(place):
        _refuse_other_fit(place, images, targets, groups)
        table = _write_table(place.path, images, ids, targets, groups)
        own = {
            "data.dataset": "table",
            "data.root": place.path / IMAGES,
            "data.table": table,
            "data.labels": "custom",
            "data.classes": targets.codes,
            "data.malignant": targets.malignant,
            "data.drop_unreadable": False,  # each image has its answer
        }
        data = load_dataset(settings={**settings, **own})
        manifest, folds = split(data, data.config.folds.k, data.config.folds.seed)
        if is_ungrouped(manifest.table, folds):
            console.warn(UNGROUPED)
        done = train_held(data, data.config, folds, place, jobs=jobs, report=run is not None)
        answers = done.oof.set_index("image_id")[list(done.labels.columns)].loc[ids]
        packed = PackedEnsemble(read_bundle(place.path))
        return Fitted(place.path, packed, done.oof, answers.to_numpy(np.float64))


@contextlib.contextmanager
def _folder(run: str | None, settings: Mapping[str, Any]) -> Iterator[RunDir]:
    """The run's folder; a temporary one, with all that belongs to it, goes at the end."""
    if run is not None:
        config = load_config(None, as_overrides({"data.dataset": "table"} | dict(settings)))
        yield RunDir(run_place(config, run).path.absolute())
        return
    with temporary_beside(Path(tempfile.gettempdir()) / "kderm-fit") as folder, runs_at(folder):
        folder.mkdir(mode=0o700)  # the images are somebody's
        yield RunDir(folder / "fit")


def _refuse_missing(images: list[ImageSource]) -> None:
    """Refuse paths where there is no file: a table's would be left out with a warning."""
    for number, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)) and not os.path.isfile(image):
            raise WrongInput(
                f"Expected images that can be read. Received as number {number}: {image}, which "
                f"is no file (looked from {Path.cwd()})."
            )


def _ids(images: list[ImageSource]) -> list[str]:
    """The stems of the files where each has one of its own, else numbers."""
    if all(isinstance(image, (str, os.PathLike)) for image in images):
        stems = [Path(image).stem for image in images]
        if len({stem.lower() for stem in stems}) == len(stems):
            return stems
    return [f"fit_{number:07d}" for number in range(len(images))]


def _groups(groups: Sequence | None, ids: list[str]) -> list[str]:
    """The lesion or patient of each image, as text; "" where it is not known."""
    if groups is None:
        return [""] * len(ids)
    groups = np.asarray(groups, dtype=object).reshape(-1)
    if len(groups) != len(ids):
        raise WrongInput(
            f"Expected a group for each of {len(ids)} images. Received: {len(groups)}."
        )
    return ["" if pd.isna(group) else f"group:{group}" for group in groups]


def _write_table(
    folder: Path,
    images: list[ImageSource],
    ids: list[str],
    targets: Targets,
    groups: list[str],
) -> Path:
    """The table of the run, and the images in memory as files beside it."""
    place = folder / IMAGES
    place.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        numbered = range(len(images))
        paths = list(pool.map(lambda number: _as_file(images[number], place, number), numbered))
    table = pd.DataFrame(
        {
            "image_id": ids,
            "path": paths,
            "label": [targets.codes[position] for position in targets.y],
            _kind(groups, targets): groups,
        }
    )
    write_csv(folder / TABLE, table)
    return folder / TABLE


def _kind(groups: list[str], targets: Targets) -> str:
    """What the groups are: a lesion has one diagnosis, a patient may have several lesions."""
    pairs = zip(groups, targets.y.tolist(), strict=True)
    known = {(group, position) for group, position in pairs if group}
    return "lesion_id" if len(known) == len({group for group, _ in known}) else "patient_id"


def _as_file(image: ImageSource, folder: Path, number: int) -> str:
    """The path of an image's file, written now where it is in memory and was not written before."""
    if isinstance(image, (str, os.PathLike)):
        return os.path.abspath(image)
    path = folder / f"{number:07d}.png"  # the decoder looks at what is in it, not at its name
    if not path.exists():
        with atomic_path(path) as temporary:
            if isinstance(image, bytes):
                temporary.write_bytes(image)
            else:
                pixels = _pixels(image, number)
                Image.fromarray(pixels).save(temporary, "PNG", compress_level=1)
    return str(path)


def _pixels(image: Image.Image | np.ndarray, number: int) -> np.ndarray:
    """uint8 (height, width, 3), RGB: all that the decoder takes from an image in memory."""
    if isinstance(image, Image.Image):
        try:
            # At its own size nothing is resampled: the colours are the decoder's, as in `predict`.
            return read_image(image, ImageSpec(*_upright(image)))
        except UnreadableImage as error:
            raise WrongInput(
                f"Expected images that can be read. Received as number {number}: {error.reason}."
            ) from None
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise WrongInput(
            "Expected each image as a uint8 array (height, width, 3). Received as number "
            f"{number}: {image.dtype} of shape {image.shape}."
        )
    return image


def _upright(image: Image.Image) -> tuple[int, int]:
    """Height and width as the decoder turns the picture: by what a copy of it knows."""
    try:
        lies = int(image.copy().getexif().get(ExifTags.Base.Orientation, 1)) in range(5, 9)
    except Exception:  # a damaged EXIF block turns nothing
        lies = False
    return (image.width, image.height) if lies else (image.height, image.width)


def _refuse_other_fit(
    place: RunDir, images: list[ImageSource], targets: Targets, groups: list[str]
) -> None:
    """Note what a run is fitted to; refuse to go on with it on something else."""
    digest = hashlib.sha256(repr([targets.codes, targets.y.tolist(), groups]).encode())
    for number, image in enumerate(images):
        digest.update(_fingerprint(image, number))
    record = {"images": len(images), "digest": digest.hexdigest()}
    path = place.path / RECORD
    if place.is_started:
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if before != record:
            raise WrongInput(
                f"The run {place.name!r} was fitted to other images, labels or groups. Fit with "
                "run=None, or name another run, or remove its folder."
            )
    else:
        shutil.rmtree(place.path / IMAGES, ignore_errors=True)
    write_json(path, record)


def _fingerprint(image: ImageSource, number: int) -> bytes:
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    if isinstance(image, (str, os.PathLike)):
        return repr((os.path.abspath(image), *size_and_time(image))).encode()
    pixels = np.ascontiguousarray(_pixels(image, number))
    return hashlib.sha256(
        repr((pixels.shape, pixels.dtype.str)).encode() + pixels.tobytes()
    ).digest()
