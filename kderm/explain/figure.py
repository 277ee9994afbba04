"""One Grad-CAM a class: the run's own pictures, seen by the member that did not train on them.

Reads a finished run's tables and members; writes a PNG and, beside it, a CSV of what is shown.
"""

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from kderm.atomic import atomic_path, write_csv
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.data.augment import plain_transform
from kderm.data.images import ImageSpec
from kderm.data.manifest import read_manifest
from kderm.data.metadata import MetadataSpec
from kderm.errors import UserError
from kderm.evaluation.predictions import read_predictions
from kderm.evaluation.report.style import INK, STYLE
from kderm.explain.activation_maps import class_activation_maps
from kderm.explain.examples import choose_examples, read_frames, read_pictures
from kderm.explain.view_maps import view_pixels
from kderm.font_list import make_font_list
from kderm.labels import LabelSpace, label_space
from kderm.models.classifier import input_size, load_classifier
from kderm.run_dir import RunDir

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_SIDE = 400  # pixels a picture is drawn from
WRONG = "#B3261E"
FOOTER = (
    "Grad-CAM of the class named above each picture, for the plain view, by the member that did "
    "not train on the image: in colour where the evidence for the class lies, within the white "
    "line at least half of its maximum; {cells} cells, smoothly enlarged. Shown is the surest "
    "right answer of each class (in red: none is right, the likeliest): a look at the network, not "
    "a sample of its work."
)
_MOST_COLUMNS, _LONGEST_ID = 5, 22


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
    about = manifest.table.set_index("image_id", drop=False).loc[ids]
    maps = _maps(run, labels, examples, frames, about, layer)
    pictures = read_pictures(manifest, ids, spec, frames, PICTURE_SIDE)
    _draw(path, examples, labels, pictures, maps, _headline(run, config))
    write_csv(path.with_suffix(".csv"), examples)
    return examples


def _maps(
    run: RunDir,
    labels: LabelSpace,
    examples: pd.DataFrame,
    frames: np.ndarray,
    about: pd.DataFrame,
    layer: str | None,
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
        pixels = plain_view(frames[rows], input_size(classifier))
        encoding = json.loads(run.fold(fold).done.read_text()).get("metadata")
        known = MetadataSpec.from_dict(encoding).encode(about.iloc[rows]) if encoding else None
        # One image at a time: JAX compiles every operation anew for another number of images.
        found = class_activation_maps(
            classifier, pixels, classes[rows], layer=layer, metadata=known, batch_size=1
        )
        for row, one in zip(rows, found, strict=True):
            maps[row] = one
    return maps


def plain_view(frames: np.ndarray, size: int) -> np.ndarray:
    """The network's input for the plain view of `frames` uint8 (n, H, W, 3).

    Returns:
        float32 array (n, size, size, 3), 0..255.
    """
    return view_pixels(frames, plain_transform(frames.shape[1:3]), size)


def _headline(run: RunDir, config: Config) -> str:
    names = [config.data.dataset, *(source.dataset for source in config.data.sources)]
    drawn = "SYNTHETIC DATA  ·  " if "demo" in names else ""
    return f"{drawn}What speaks for each class  ·  {run.name}"


# === Drawing, in inches ===

_TILE, _GAP, _MARGIN, _LEAST_WIDTH = 2.5, 0.14, 0.25, 5.4
_HEAD, _CAPTION, _LINE = 0.6, 0.86, 0.16


def _draw(
    path: Path,
    examples: pd.DataFrame,
    labels: LabelSpace,
    pictures: list[np.ndarray],
    maps: list[np.ndarray],
    headline: str,
) -> None:
    make_font_list()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bands = -(-len(examples) // _MOST_COLUMNS)
    columns = -(-len(examples) // bands)
    band = _CAPTION + 2 * _TILE + _GAP / 2
    width = max(columns * (_TILE + _GAP) - _GAP + 2 * _MARGIN, _LEAST_WIDTH)
    cells = " × ".join(map(str, maps[0].shape))
    footer = textwrap.wrap(FOOTER.format(cells=cells), int(15 * (width - 2 * _MARGIN)))
    height = _HEAD + bands * band + _LINE * (len(footer) + 2.5)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)

        def axes_at(left: float, top: float) -> "Axes":
            place = (left / width, 1 - (top + _TILE) / height, _TILE / width, _TILE / height)
            axes = figure.add_axes(place)
            axes.set_axis_off()
            return axes

        for number, example in enumerate(examples.to_dict("records")):
            row, column = divmod(number, columns)
            left, top = _MARGIN + column * (_TILE + _GAP), _HEAD + row * band + _CAPTION
            upper, lower = axes_at(left, top), axes_at(left, top + _TILE + _GAP / 2)
            upper.imshow(pictures[number])
            _caption(upper, example, labels)
            evidence = enlarge(maps[number], len(pictures[number]))
            lower.imshow(spotlight(pictures[number], evidence))
            if evidence.max() > 0.5:
                lower.contour(evidence, levels=[0.5], colors="white", linewidths=1.1)
        x = _MARGIN / width
        fitting = 84 * (width - 2 * _MARGIN) / len(headline)  # points that fill the width
        title = {"va": "center", "fontsize": min(14, fitting), "fontweight": "bold"}
        figure.text(x, 1 - 0.34 / height, headline, **title)
        figure.text(x, _LINE / height, "\n".join(footer), va="bottom", fontsize=8.5)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _caption(axes: "Axes", example: dict, labels: LabelSpace) -> None:
    name = textwrap.fill(labels.names[labels.index(example["class"])], 27)
    code, image_id = example["class"], str(example["image_id"])
    if len(image_id) > _LONGEST_ID:
        image_id = "…" + image_id[1 - _LONGEST_ID :]
    facts = (
        f"truth {code}, answer {example['predicted']}\n"
        f"p({code}) {_probability(example['probability'])}  ·  {image_id}"
    )
    style = {"transform": axes.transAxes, "va": "baseline", "linespacing": 1.25}
    axes.text(0, 1.045, facts, fontsize=8.5, color=INK if example["right"] else WRONG, **style)
    axes.text(0, 1.195, name, fontsize=10.5, fontweight="bold", **style)


def _probability(value: float) -> str:
    """Three decimals that claim no certainty."""
    return "> 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def enlarge(evidence: np.ndarray, side: int) -> np.ndarray:
    """A map (h, w) smoothly enlarged to float32 (side, side), in [0, 1]."""
    image = Image.fromarray(np.ascontiguousarray(evidence, np.float32))
    large = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(large, 0.0, 1.0)


def spotlight(picture: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """The picture as it is where the evidence is, dark and grey where there is none.

    Laid over the picture, colours would hide the very place that the network looks at.

    Args:
        picture: uint8 (s, s, 3).
        evidence: float (s, s), in [0, 1]; from three quarters on nothing is taken away.

    Returns:
        uint8 (s, s, 3).
    """
    share = np.clip(evidence / 0.75, 0.0, 1.0)[..., None]
    dark = 0.45 * picture.mean(axis=-1, keepdims=True) + 15.0
    return np.rint(share * picture + (1.0 - share) * dark).astype(np.uint8)
