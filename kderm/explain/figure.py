"""One Grad-CAM a class: the run's own pictures, seen by the member that did not train on them.

Reads a finished run's tables and members; writes a PNG and, beside it, a CSV of what is shown.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from kderm.atomic import atomic_path, write_csv
from kderm.config import Config, load_config
from kderm.data.augment import plain_colours, plain_transform
from kderm.data.images import ImageSpec
from kderm.data.manifest import read_manifest
from kderm.data.warp import Warp
from kderm.errors import UserError
from kderm.evaluation.figures import INK, STYLE
from kderm.evaluation.predictions import read_predictions
from kderm.explain.activation_maps import class_activation_maps
from kderm.explain.examples import choose_examples, read_frames, read_pictures
from kderm.labels import LabelSpace, label_space
from kderm.models.classifier import load_classifier
from kderm.run_dir import RunDir

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_SIDE = 400  # pixels a picture is drawn from
COLOURS, MOST_OPAQUE = "inferno", 0.75
WRONG = "#B3261E"
FOOTER = (
    "Grad-CAM of the class named above, for the plain view, by the member that did not train on "
    "the image; white: half of its maximum.\nThe surest right answer of each class (in red: none "
    "is right, the likeliest): a look at the network, not a sample of its work."
)
_MOST_COLUMNS = 5


def grad_cam_figure(run: RunDir, path: Path, *, layer: str | None = None) -> pd.DataFrame:
    """Draw where each class's evidence lies, in one image a class, and list what is drawn.

    Shown is the image of a class that its member, which never saw it, got right with the highest
    out-of-fold probability; where none is right, the likeliest. Below it lies the map of that class
    (not of the predicted one) for the plain view.

    Args:
        run: a run with `oof.csv` and its members.
        path: PNG to write; the same name with `.csv` gets the table that is returned.
        layer: layer to look into, see `class_activation_maps`.

    Returns:
        `choose_examples`'s table.

    Raises:
        UserError: a run that is not finished or not whole, an image that is gone, no such layer.
    """
    config = load_config(run.config)
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    oof = read_predictions(run.oof, labels)
    manifest = read_manifest(run.manifest, labels)
    examples = choose_examples(oof)
    ids = examples["image_id"].tolist()
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    frames = read_frames(run, manifest, ids, spec)
    maps = _maps(run, labels, examples, frames, layer)
    pictures = read_pictures(manifest, ids, spec, frames, PICTURE_SIDE)
    _draw(path, examples, labels, pictures, maps, _headline(run, config))
    write_csv(path.with_suffix(".csv"), examples)
    return examples


def _maps(
    run: RunDir, labels: LabelSpace, examples: pd.DataFrame, frames: np.ndarray, layer: str | None
) -> list[np.ndarray]:
    """One map (h, w) an example, by the member that held the image out; each loaded once."""
    maps: list[np.ndarray] = [np.empty(0)] * len(examples)
    classes = np.array([labels.index(code) for code in examples["class"]])
    for fold in sorted(set(examples["fold"])):
        rows = np.flatnonzero(examples["fold"] == fold)
        model = run.fold(fold).model
        if not model.is_file():
            raise UserError(
                f"The map of an image needs the member that held it out. Expected: {model}, which "
                "is not there. Copy the run's fold folders whole."
            )
        classifier = load_classifier(model)
        pixels = plain_view(frames[rows], int(classifier.inputs[0].shape[1]))
        found = class_activation_maps(classifier, pixels, classes[rows], layer=layer)
        for row, one in zip(rows, found, strict=True):
            maps[row] = one
    return maps


def plain_view(frames: np.ndarray, size: int) -> np.ndarray:
    """The network's input for the plain view of `frames` uint8 (n, H, W, 3).

    Returns:
        float32 array (n, size, size, 3), 0..255.
    """
    from keras import ops

    transforms = np.tile(plain_transform(frames.shape[1:3]), (len(frames), 1, 1))
    inputs = [frames, transforms, plain_colours(len(frames))]
    return ops.convert_to_numpy(Warp(size)(*map(ops.convert_to_tensor, inputs)))


def _headline(run: RunDir, config: Config) -> str:
    names = [config.data.dataset, *(source.dataset for source in config.data.sources)]
    drawn = "SYNTHETIC DATA  ·  " if "demo" in names else ""
    return f"{drawn}What speaks for each class  ·  {run.name}"


# === Drawing, in inches ===

_TILE, _GAP, _MARGIN = 2.5, 0.14, 0.25
_HEAD, _CAPTION, _FOOT = 0.62, 0.86, 0.66


def _draw(
    path: Path,
    examples: pd.DataFrame,
    labels: LabelSpace,
    pictures: list[np.ndarray],
    maps: list[np.ndarray],
    headline: str,
) -> None:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bands = -(-len(examples) // _MOST_COLUMNS)
    columns = -(-len(examples) // bands)
    band = _CAPTION + 2 * _TILE + _GAP / 2
    # A figure of two classes is as wide as its headline and its footer need.
    width = max(columns * (_TILE + _GAP) - _GAP + 2 * _MARGIN, 8.2)
    height = _HEAD + bands * band + _FOOT
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)

        def axes_at(left: float, top: float, wide: float, high: float) -> "Axes":
            place = (left / width, 1 - (top + high) / height, wide / width, high / height)
            return figure.add_axes(place)

        figure.text(
            _MARGIN / width, 1 - 0.34 / height, headline, va="center", fontsize=15,
            fontweight="bold",
        )  # fmt: skip
        for number, example in enumerate(examples.to_dict("records")):
            row, column = divmod(number, columns)
            left = _MARGIN + column * (_TILE + _GAP)
            top = _HEAD + row * band + _CAPTION
            upper = axes_at(left, top, _TILE, _TILE)
            upper.imshow(pictures[number])
            _caption(upper, example, labels)
            lower = axes_at(left, top + _TILE + _GAP / 2, _TILE, _TILE)
            lower.imshow(pictures[number])
            _shade(lower, maps[number], len(pictures[number]))
            for axes in (upper, lower):
                axes.set_axis_off()
        _scale(axes_at(_MARGIN, height - 0.36, 1.6, 0.1))
        figure.text((_MARGIN + 1.85) / width, 0.31 / height, FOOTER, va="center", fontsize=8.5)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _caption(axes: "Axes", example: dict, labels: LabelSpace) -> None:
    name = textwrap.fill(labels.names[labels.index(example["class"])], 27)
    truth, predicted = example["label"], example["predicted"]
    lines = f"{truth}, answered {predicted}\np({truth}) {example['probability']:.3f}  ·  "
    style = {"transform": axes.transAxes, "va": "bottom", "linespacing": 1.25}
    colour = INK if example["right"] else WRONG
    axes.text(0, 1.03, lines + str(example["image_id"])[:24], fontsize=8.5, color=colour, **style)
    axes.text(0, 1.18, name, fontsize=10.5, fontweight="bold", **style)


def _shade(axes: "Axes", evidence: np.ndarray, side: int) -> None:
    """Lay a map (h, w) over a picture of `side` pixels, see-through where there is no evidence."""
    large = enlarge(evidence, side)
    axes.imshow(large, cmap=COLOURS, vmin=0, vmax=1, alpha=MOST_OPAQUE * large)
    if large.max() > 0.5:
        axes.contour(large, levels=[0.5], colors="white", linewidths=1.0)


def enlarge(evidence: np.ndarray, side: int) -> np.ndarray:
    """A map (h, w) smoothly enlarged to float32 (side, side), in [0, 1]."""
    image = Image.fromarray(np.ascontiguousarray(evidence, np.float32))
    large = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(large, 0.0, 1.0)


def _scale(axes: "Axes") -> None:
    """The colours from no evidence to the most, over a mid grey."""
    ramp = np.linspace(0, 1, 256)[None]
    axes.imshow(np.full((1, 256, 3), 0.75), extent=(0, 1, 0, 1), aspect="auto")
    axes.imshow(
        ramp, cmap=COLOURS, vmin=0, vmax=1, alpha=MOST_OPAQUE * ramp, extent=(0, 1, 0, 1),
        aspect="auto",
    )  # fmt: skip
    axes.axvline(0.5, color="white", linewidth=1.0)
    axes.set(yticks=[], xticks=[0, 0.5, 1], xticklabels=["none", "half", "most"])
    axes.tick_params(length=0, labelsize=8, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
