"""How the run came about: training curves, facts, the exact config, versions and digests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from kderm.errors import UserError
from kderm.evaluation.report import figures
from kderm.evaluation.report.document import Block, Code, Figure, Section, Still, Table, Text
from kderm.evaluation.report.mistakes import Pictures
from kderm.evaluation.report.provenance import WARNINGS
from kderm.evaluation.report.wording import fact

MONITORS = ("macro_auc", "balanced_accuracy", "macro_f1")
_HEADERS = {"versions": ["package", "version"], "digests": ["digest of", "SHA-256"]}


@dataclass(frozen=True)
class Background:
    """What a report may tell beside the predictions table; everything may be left out.

    Attributes:
        name: of the run, whose members the model card and the checklist are about; "" for neither.
        config: the exact config, as YAML.
        versions: package -> version.
        digests: what -> SHA-256 or another digest.
        stills: title -> a PNG below the report's folder, shown in a section of its own.
        pictures: brings images by id.
        overlays: brings images with what speaks for the predicted class, by id.
    """

    name: str = ""
    config: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    stills: Mapping[str, Path] = field(default_factory=dict)
    pictures: Pictures | None = None
    overlays: Pictures | None = None


def training_section(histories: dict[int, pd.DataFrame], monitor: str | None) -> Section:
    """Curves of all folds.

    Raises:
        UserError: a history lacks a column.
    """
    histories = {fold: table for fold, table in histories.items() if len(table)}
    drawn_metric = monitor if monitor in MONITORS else MONITORS[0]
    for fold, history in histories.items():
        _check_history(fold, history, drawn_metric)
    if not histories:
        return Section("Training", [])
    shown = ("loss", "val_loss", f"val_{drawn_metric}")
    draw = partial(figures.plot_training_curves, histories=histories, monitor=drawn_metric)
    rows = [
        [fold, len(history), int(kept["epoch"]), *(kept[name] for name in shown)]
        for fold, history in sorted(histories.items())
        for kept in history[history["chosen"] == 1].tail(1).to_dict("records")
    ]
    header = ["fold", "epochs", "epoch kept", "training loss", "held-out loss"]
    header.append(f"held-out {figures.METRIC_NAMES[f'val_{drawn_metric}']}")
    return Section(
        "Training",
        [
            Figure("training_curves", "Training curves of all folds", draw, 900, panels=2),
            Text(
                "The held-out numbers here were measured during training, on the plain view of "
                "each image. The table of folds under Discrimination is of the final predictions, "
                "the mean of all test-time views, so the two differ a little."
            ),
            Table(header, rows, "training"),
        ],
    )


def _check_history(fold: int, history: pd.DataFrame, metric: str) -> None:
    needed = ["epoch", "phase", "loss", "val_loss", f"val_{metric}", "chosen"]
    missing = [column for column in needed if column not in history.columns]
    if missing:
        raise UserError(
            f"The history of fold {fold} needs the columns {', '.join(needed)}. "
            f"Missing: {', '.join(missing)}. Received: {', '.join(map(str, history.columns))}."
        )


def still_sections(background: Background) -> list[Section]:
    """A section for each picture that something else drew."""
    return [Section(title, [Still(path, title)]) for title, path in background.stills.items()]


def facts_section(facts: Mapping[str, object], background: Background) -> Section:
    """Facts, versions, digests, and the config as it was."""
    facts = {name: value for name, value in facts.items() if name != WARNINGS and value is not None}
    rows = [[name, fact(value)] for name, value in facts.items()]
    blocks: list[Block] = [Table(["fact", "value"], rows)] if rows else []
    for name, content in (("versions", background.versions), ("digests", background.digests)):
        if content:
            cells = [[key, str(value)] for key, value in content.items()]
            blocks.append(Table(_HEADERS[name], cells))
    if background.config:
        blocks.append(Code("The exact config", background.config, "yaml"))
    return Section("Facts", blocks)
