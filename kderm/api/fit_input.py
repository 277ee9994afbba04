"""What `fit` and `predict` of the estimator are given, checked as scikit-learn's tools expect it.

In front of `kderm.api.fitting`. Opens no image.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kderm.api.arguments import renamed
from kderm.api.given import Images, listed_images
from kderm.data.images import ImageSource
from kderm.errors import UserError
from kderm.labels import MALIGNANT, UNCORRECTED, plain

# Options by the parameters that they are here.
_PARAMETERS = {
    "folds.k": "folds",
    "image.size": "image_size",
    "model.preset": "preset",
    "model.weights": "weights",
    "train.epochs": "epochs",
    "train.batch_size": "batch_size",
    "predict.views": "views",
    "data.malignant": "malignant",
    "--run NAME": "run=",
    # Each image of `fit` has its answer in `oof_`.
    "Fetch these files again, or set data.drop_unreadable=true to go on without them": (
        "Leave these images and their labels out"
    ),
}
_FIRST_ROW = 2  # of a table, below its header, as an editor counts
_PROBLEM = re.compile(r"^( *)row (\d+): ", re.MULTILINE)  # as a list of problems begins each
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")


class WrongInput(UserError, ValueError):
    """Wrong input to `fit` or `predict`: a ValueError, as scikit-learn's tools expect."""


@contextlib.contextmanager
def as_wrong_input(*, rows: bool = False) -> Iterator[None]:
    """Raise a UserError within as a `WrongInput`, told by the estimator's parameters.

    Args:
        rows: tell problems of the table that `fit` writes by numbers of images, not by its rows.
    """
    try:
        yield
    except WrongInput:
        raise
    except UserError as error:
        text = renamed(str(error), _PARAMETERS)
        if rows:
            text = _PROBLEM.sub(lambda it: f"{it[1]}image number {int(it[2]) - _FIRST_ROW}: ", text)
        raise WrongInput(text) from None


@dataclass(frozen=True)
class Targets:
    """What `y` says.

    Attributes:
        classes: the labels, sorted, in numpy's own type.
        codes: what they are called in tables, in the same order.
        y: int (n,), positions in `classes`.
        malignant: the codes that count as malignant.
    """

    classes: np.ndarray
    codes: tuple[str, ...]
    y: np.ndarray
    malignant: tuple[str, ...]


def checked_images(images: Images) -> list[ImageSource]:
    """The images of `X`, one by one.

    Raises:
        WrongInput: no images, or something else than images.
    """
    if isinstance(images, (str, os.PathLike)):
        raise WrongInput(f"Expected a list of images. Received: one path, {images}.")
    pixels = isinstance(images, np.ndarray) and images.dtype.kind not in "OUS"
    if pixels and (images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8):
        raise WrongInput(
            "Expected images as a uint8 array (n, height, width, 3), or a list of paths. "
            f"Received: {images.dtype} of shape {images.shape}. Scaled images go back to 0..255 "
            "first."
        )
    found = np.asarray(images).tolist() if _is_column(images) else images
    try:
        return listed_images(found)
    except UserError as error:
        raise WrongInput(str(error)) from None


def _is_column(images: Any) -> bool:
    """Whether these are paths in an array, a column of a table or its like."""
    return (hasattr(images, "dtype") and not isinstance(images, np.ndarray)) or (
        isinstance(images, np.ndarray) and images.dtype.kind in "US"
    )


def checked_targets(y: Sequence, count: int, malignant: Sequence | None) -> Targets:
    """What `y` says of `count` images.

    Raises:
        WrongInput: another length, missing or continuous labels, fewer than two classes.
    """
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets

    if y is None:
        raise WrongInput(
            "This SkinLesionClassifier requires y to be passed, but the target y is None"
        )
    try:
        y = column_or_1d(y, warn=True)
        if pd.isna(np.asarray(y, dtype=object)).any():
            raise ValueError("Input y contains NaN.")
        check_classification_targets(y)
    except ValueError as error:
        raise WrongInput(str(error)) from None
    if len(y) != count:
        raise WrongInput(f"Expected a label for each of {count} images. Received: {len(y)}.")
    classes, position = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise WrongInput(
            "SkinLesionClassifier needs at least 2 classes. Received: only one class, "
            f"{classes.tolist()}."
        )
    chosen = [] if malignant is None else list(malignant)
    strangers = [label for label in chosen if label not in classes.tolist()]
    if strangers:
        raise WrongInput(
            f"Expected malignant labels among {classes.tolist()}. Received: {strangers}."
        )
    codes = _codes(classes, chosen)
    named = tuple(
        code for code, label in zip(codes, classes.tolist(), strict=True) if label in chosen
    )
    return Targets(classes, codes, position.reshape(-1), named)


def _codes(classes: np.ndarray, malignant: list) -> tuple[str, ...]:
    """The labels themselves where they can stand in a column's name, else class_0, class_1, ..."""
    names = [str(label) for label in classes.tolist()]
    usable = all(map(_CODE.fullmatch, names)) and len(set(map(plain, names))) == len(names)
    # p_malignant is the sum over the malignant classes; see `LabelSpace`.
    usable &= UNCORRECTED not in names
    usable &= MALIGNANT not in names or not malignant or malignant == [MALIGNANT]
    return tuple(names) if usable else tuple(f"class_{i}" for i in range(len(names)))
