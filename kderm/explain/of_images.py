"""The explanations of predicted images: an overlay each, contact sheets, a table.

Works on what `ensemble-predict` wrote, with plain arguments: the members' files, the table of
answers, the frame. Knows neither bundle nor run.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import write_csv
from kderm.data.images import ImageSpec, UnreadableImage, read_image
from kderm.data.views import view_transforms
from kderm.explain.activation_maps import Evidence
from kderm.explain.examples import large_frames
from kderm.explain.explained import Explained, as_table, explain_frames
from kderm.explain.sheet import Card, draw_card, draw_sheet, save_picture
from kderm.explain.targets import watched_class
from kderm.labels import LabelSpace
from kderm.models.classifier import load_classifier
from kderm.models.native.swap import use_native_graph

TABLE, OVERLAYS = "maps.csv", "overlays"
# Cards of one contact sheet: rows of eight.
COLUMNS, PER_SHEET = 8, 40
_OVERLAY_WIDTH = 480


@dataclass(frozen=True)
class Ensemble:
    """Whose maps are drawn.

    Attributes:
        members: the model files.
        labels: the label space.
        spec: the frame.
        views: name of the test-time views that maps are averaged over.
        layer: a layer to look into by Grad-CAM; None for the exact map of the last features.
        batch_size: images a forward pass.
        synthetic: whether the members learnt from images drawn by a program.
    """

    members: Sequence[Path]
    labels: LabelSpace
    spec: ImageSpec
    views: str
    layer: str | None = None
    batch_size: int = 16
    synthetic: bool = False

    def load(self) -> list[Evidence]:
        """The members, ready to give maps."""
        loaded = []
        for path in self.members:
            classifier = load_classifier(path)
            use_native_graph(classifier)
            loaded.append(Evidence(classifier, self.layer, self.batch_size))
        return loaded


def explain_images(
    ensemble: Ensemble,
    answers: pd.DataFrame,
    directory: Path,
    *,
    metadata: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explained]:
    """Write `overlays/<image id>.jpg`, contact sheets of 40 and `maps.csv`.

    Sheets begin with the images in which the watched diagnosis (melanoma, else malignancy) is most
    probable. Memory stays flat: one sheet's images are held at a time.

    Args:
        ensemble: whose maps are drawn.
        answers: one row an image: image_id, path, p_<code>..., and label where known.
        directory: where to write; sheets and overlays of an earlier call there are replaced.
        metadata: float32 (n, d), for members that take them.
        progress: called with (images done, n).

    Returns:
        The explained images, likeliest first; a file that has become unreadable is left out.
    """
    _sweep(directory)
    order = np.argsort(-_watched_probability(answers, ensemble.labels), kind="stable")
    members = ensemble.load()
    frame = ensemble.spec.height, ensemble.spec.width
    transforms = view_transforms(ensemble.views, frame)
    sheets = -(-len(order) // PER_SHEET)
    names = overlay_names(answers["image_id"].astype(str).tolist())
    images: list[Explained] = []
    for number in range(sheets):
        before = number * PER_SHEET
        rows, frames = _readable(answers, order[before : before + PER_SHEET], ensemble.spec)
        about = answers.iloc[rows]
        explained = explain_frames(
            members,
            frames,
            about,
            ensemble.labels,
            transforms,
            metadata=None if metadata is None else metadata[rows],
            progress=progress and (lambda done, _, b=before: progress(b + done, len(order))),
        )
        pictures = large_frames(about["path"].tolist(), ensemble.spec, frames, _OVERLAY_WIDTH)
        cards = [Card(*pair) for pair in zip(explained, pictures, strict=True)]
        for row, card in zip(rows, cards, strict=True):
            overlay = draw_card(card, _OVERLAY_WIDTH, across=True)
            save_picture(directory / OVERLAYS / names[row], overlay)
        page = f"contact_sheet_{number + 1:02d}.jpg"
        title = "SYNTHETIC DATA  ·  " * ensemble.synthetic + "What speaks for the answers"
        title += f", {number + 1} of {sheets}" * (sheets > 1)
        draw_sheet(directory / page, title, [("", cards)], columns=min(COLUMNS, max(3, len(cards))))
        images += explained
    write_csv(directory / TABLE, as_table(images))
    return images


def overlay_names(image_ids: Sequence[str]) -> list[str]:
    """A file name for each image id: the id, with what no file name may hold replaced.

    Ids that become alike, or are too long, get a digest of the id.
    """
    plain = [_cut(re.sub(r"[^\w.\-]+", "_", image_id).strip(".")) for image_id in image_ids]
    lower = [name.lower() for name in plain]
    names = []
    for image_id, name in zip(image_ids, plain, strict=True):
        if name != image_id and (lower.count(name.lower()) > 1 or len(image_id) > len(name)):
            name = f"{name}_{hashlib.sha256(image_id.encode()).hexdigest()[:8]}"
        names.append(f"{name}.jpg")
    return names


def _cut(name: str) -> str:
    """At most 120 bytes of a name: a disk takes 255, and a digest and a suffix follow."""
    return name.encode()[:120].decode(errors="ignore")


def _watched_probability(answers: pd.DataFrame, labels: LabelSpace) -> np.ndarray:
    """float64 (n,): of the watched diagnosis; where none is watched, how unsure the answer is."""
    probabilities = answers[labels.columns].to_numpy(dtype=np.float64)
    watched = watched_class(labels)
    if watched is None:
        return -probabilities.max(axis=1)
    return probabilities[:, list(watched.classes)].sum(axis=1)


def _readable(
    answers: pd.DataFrame, rows: np.ndarray, spec: ImageSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Those of `rows` whose file can be read, and their frames uint8 (n, H, W, 3)."""
    kept, frames = [], []
    for row in rows:
        try:
            frames.append(read_image(answers["path"].iloc[row], spec))
        except UnreadableImage:
            continue
        kept.append(row)
    return np.array(kept, int), np.stack(frames) if frames else np.zeros((0, *spec.shape), np.uint8)


def _sweep(directory: Path) -> None:
    """Remove the pictures of an earlier call, which may have been of other images."""
    for old in (*directory.glob("contact_sheet_*.jpg"), *directory.glob(f"{OVERLAYS}/*.jpg")):
        old.unlink()
