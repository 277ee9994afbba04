"""The explanations of a run: a sheet a class of held-out images, a table, and the checks on trust.

Reads a finished run's tables and members. Every image is explained by the member that did not train
on it. `explain_held_out` gives any images of the run to other users of maps.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import write_csv
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.data.images import ImageSpec
from kderm.data.manifest import Manifest, read_manifest
from kderm.data.metadata import MetadataSpec
from kderm.data.views import view_transforms
from kderm.errors import UserError
from kderm.evaluation.predictions import Predictions, read_predictions
from kderm.explain.activation_maps import Evidence
from kderm.explain.examples import (
    SECTIONS,
    choose_for_sheets,
    image_paths,
    large_frames,
    read_frames,
)
from kderm.explain.explained import Explained, as_table, explain_frames, flag_counts
from kderm.explain.faithfulness import check_maps
from kderm.explain.sheet import TILE_WIDTH, Card, draw_sheet
from kderm.explain.view_maps import view_pixels
from kderm.labels import label_space
from kderm.models.classifier import load_classifier
from kderm.models.native.swap import use_native_graph
from kderm.run_dir import RunDir

Progress = Callable[[int, int], None]
TABLE, CHECKS = "maps.csv", "checks.csv"


@dataclass(frozen=True)
class RunToExplain:
    """What is read of a run, once.

    Attributes:
        run: its folder.
        config: its config.
        oof: its out-of-fold predictions.
        manifest: its images.
        spec: the frame.
        transforms: float32 (v, 2, 3), the views that maps are averaged over.
        layer: the layer to look into; None for what is pooled.
    """

    run: RunDir
    config: Config
    oof: Predictions
    manifest: Manifest
    spec: ImageSpec
    transforms: np.ndarray
    layer: str | None

    def members(self, positions: np.ndarray) -> Iterator[tuple[np.ndarray, Evidence]]:
        """Each member with those of the rows (of the out-of-fold table) that it held out."""
        folds = self.oof.folds[positions]
        for fold in np.unique(folds):
            model = self.run.fold(int(fold)).model
            if not model.is_file():
                raise UserError(
                    "The map of an image needs the member that held it out. Expected: "
                    f"{model}, which is not there. Copy the run's fold folders whole."
                )
            classifier = load_classifier(model)
            use_native_graph(classifier)
            size = self.config.predict.batch_size
            yield positions[folds == fold], Evidence(classifier, self.layer, size)

    def metadata(self, positions: np.ndarray) -> np.ndarray | None:
        """float32 (n, d), what the members see beside the images of one fold; None for nothing."""
        done = self.run.fold(int(self.oof.folds[positions[0]])).done
        try:
            encoding = json.loads(done.read_text(encoding="utf-8")).get("metadata")
        except (OSError, ValueError) as error:
            raise UserError(
                f"Expected {done}, which says how the member was trained. Received: {error}. Copy "
                "the run's fold folders whole."
            ) from None
        if not encoding:
            return None
        ids = self.oof.table["image_id"].iloc[positions]
        about = self.manifest.table.set_index("image_id", drop=False).loc[ids]
        return MetadataSpec.from_dict(encoding).encode(about)

    def ids(self, positions: np.ndarray) -> list[str]:
        """Image ids of rows of the out-of-fold table."""
        return self.oof.table["image_id"].iloc[positions].tolist()


def open_for_maps(
    run: RunDir, *, layer: str | None = None, views: str | None = None
) -> RunToExplain:
    """Read a run's tables.

    Args:
        run: a run with `oof.csv` and its members.
        layer: a layer to look into by Grad-CAM; None for the exact map of the last features.
        views: test-time views that maps are averaged over; None for the run's.
    """
    if not run.config.is_file():
        raise UserError(
            f"Expected the folder of a run, with {run.config.name} in it. Received: {run.path}."
        )
    config = load_config(run.config)
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    transforms = view_transforms(views or config.predict.views, (spec.height, spec.width))
    oof, manifest = read_predictions(run.oof, labels), read_manifest(run.manifest, labels)
    return RunToExplain(run, config, oof, manifest, spec, transforms, layer)


def explain_held_out(
    opened: RunToExplain, positions: Sequence[int], progress: Progress | None = None
) -> dict[int, Card]:
    """Explain rows of the out-of-fold table, each by the member that held the image out.

    Returns:
        row -> the explained image and its picture, the whole frame.

    Raises:
        UserError: a member or an image is gone.
    """
    unique = np.unique(np.asarray(positions, int))
    cards: dict[int, Card] = {}
    report = progress or _silent
    for rows, evidence in opened.members(unique):
        ids = opened.ids(rows)
        frames = read_frames(opened.run, opened.manifest, ids, opened.spec)
        done = len(cards)
        images = explain_frames(
            [evidence],
            frames,
            opened.oof.table.iloc[rows],
            opened.oof.labels,
            opened.transforms,
            metadata=opened.metadata(rows),
            progress=lambda count, _, done=done: report(done + count, len(unique)),
        )
        paths = image_paths(opened.manifest, ids)
        pictures = large_frames(paths, opened.spec, frames, TILE_WIDTH)
        cards |= {
            int(row): Card(image, picture)
            for row, image, picture in zip(rows, images, pictures, strict=True)
        }
    return cards


def explain_run(
    opened: RunToExplain,
    directory: Path,
    *,
    each: int = 6,
    progress: Progress | None = None,
) -> list[Explained]:
    """Write a sheet a class and the table of all maps on them.

    Args:
        opened: what `open_for_maps` read.
        directory: gets `sheet_<code>.jpg` and `maps.csv`.
        each: images a section of a sheet.
        progress: called with (images done, images).

    Returns:
        The explained images, each once, in the order of the out-of-fold table.
    """
    chosen = choose_for_sheets(opened.oof, each)
    cards = explain_held_out(opened, chosen["position"].tolist(), progress)
    labels = opened.oof.labels
    for code, name in zip(labels.codes, labels.names, strict=True):
        rows = chosen[chosen["sheet"] == code]
        if rows.empty:
            continue
        sections = [
            (
                words.format(code=code),
                [cards[row] for row in rows.loc[rows["section"] == number, "position"]],
            )
            for number, words in enumerate(SECTIONS)
        ]
        draw_sheet(
            directory / f"sheet_{code}.jpg",
            f"{_drawn(opened)}{name} ({code})  ·  {opened.run.name}",
            sections,
            columns=max(3, each),
            note="Held-out images, each explained by the member that did not train on it.",
        )
    images = [cards[row].image for row in sorted(cards)]
    write_csv(directory / TABLE, as_table(images))
    return images


def check_run(
    opened: RunToExplain, directory: Path, count: int, progress: Progress | None = None
) -> tuple[pd.DataFrame, list[Explained]]:
    """Check the maps of `count` held-out images drawn at random, and write `checks.csv`.

    Returns:
        the table (see `check_maps`, with image_id, fold, predicted, and the shares of the map of
        the predicted class by place), and the explained images.
    """
    rng = np.random.default_rng([opened.config.seed, 4])
    count = min(count, len(opened.oof))
    positions = np.sort(rng.choice(len(opened.oof), count, replace=False))
    report = progress or _silent
    tables, images = [], []
    plain = view_transforms("none", (opened.spec.height, opened.spec.width))[0]
    for rows, evidence in opened.members(positions):
        frames = read_frames(opened.run, opened.manifest, opened.ids(rows), opened.spec)
        known = opened.metadata(rows)
        about = opened.oof.table.iloc[rows]
        explained = explain_frames(
            [evidence], frames, about, opened.oof.labels, opened.transforms, metadata=known
        )
        classes = opened.oof.probabilities[rows].argmax(axis=1)
        pixels = view_pixels(frames, plain, evidence.size)
        table = check_maps(evidence, pixels, classes, rng, metadata=known)
        about = as_table(explained).query("role == 'predicted'").reset_index(drop=True)
        tables.append(pd.concat([about.drop(columns=["role", "class"]), table.round(6)], axis=1))
        images += explained
        report(len(images), count)
    whole = pd.concat(tables, ignore_index=True)
    write_csv(directory / CHECKS, whole)
    return whole, images


def summary(images: Sequence[Explained], checks: pd.DataFrame | None, checked: Sequence) -> str:
    """What was found, in a few lines for people."""
    lines = [f"{len(images)} images on the sheets; flagged maps of the predicted class:"]
    lines += _flag_lines(images)
    if checks is not None:
        lines.append(f"{len(checks)} held-out images drawn at random; flagged:")
        lines += _flag_lines(checked)
        better = (checks["deletion"] < checks["deletion_random"]).mean()
        more = (checks["insertion"] > checks["insertion_random"]).mean()
        mean = checks.mean(numeric_only=True)
        lines += [
            f"  deletion {mean['deletion']:.3f} (random order {mean['deletion_random']:.3f}); "
            f"faster than random in {better:.0%}",
            f"  insertion {mean['insertion']:.3f} (random order {mean['insertion_random']:.3f}); "
            f"faster than random in {more:.0%}",
            f"  rank correlation with the maps of permuted weights {mean['rank_correlation']:.2f}",
        ]
    return "\n".join(lines)


def _flag_lines(images: Sequence[Explained]) -> list[str]:
    counts = flag_counts(images)
    lines = [f"  {count} ({count / len(images):.0%})  {words}" for words, count in counts.items()]
    return lines or ["  none"]


def _drawn(opened: RunToExplain) -> str:
    return "SYNTHETIC DATA  ·  " if opened.config.data.is_demo else ""


def _silent(done: int, total: int) -> None:
    """No one watches."""
