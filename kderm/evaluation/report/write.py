"""The report, rebuilt from the predictions table alone: pages, numbers, tables and pictures.

Reads a `Predictions` table and, where they exist, the training histories. Must stay free of Keras,
so that a report can be rebuilt anywhere, years later, without a model or an image.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kderm import atomic
from kderm.evaluation.calibration.scaling import Kind
from kderm.evaluation.decisions.points import FrozenPoint
from kderm.evaluation.intervals import RESAMPLES
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.checklist import checklist
from kderm.evaluation.report.decision_sections import benefit_section, operating_section
from kderm.evaluation.report.discrimination import discrimination_section
from kderm.evaluation.report.document import Document, Figure, Section
from kderm.evaluation.report.evidence import data_section
from kderm.evaluation.report.findings import Findings, gather
from kderm.evaluation.report.markdown import to_markdown
from kderm.evaluation.report.mistakes import mistakes_section
from kderm.evaluation.report.model_card import model_card
from kderm.evaluation.report.page import to_html
from kderm.evaluation.report.probabilities import calibration_section
from kderm.evaluation.report.provenance import on_other_images, warning_notes
from kderm.evaluation.report.reproduction import (
    Background,
    facts_section,
    still_sections,
    training_section,
)
from kderm.evaluation.report.subgroup_sections import lesion_section, subgroup_section
from kderm.evaluation.report.summary import answer
from kderm.evaluation.report.tables import write_tables
from kderm.evaluation.report.uncertainty_section import uncertainty_section
from kderm.evaluation.report.wording import backbone_name, initialisation
from kderm.evaluation.uncertainty.conformal import ConformalSets

# Every picture that a report may draw; those that it does not draw are removed.
FIGURES = (
    *("roc", "precision_recall", "confusion", "reliability", "operating_points", "net_benefit"),
    *("subgroups", "abstain", "training_curves"),
)
FILES = ("report.html", "report.md", "metrics.json", "MODEL_CARD.md", "CHECKLIST.md")


def write_report(
    predictions: Predictions,
    directory: Path,
    *,
    title: str,
    histories: dict[int, pd.DataFrame] | None,
    facts: dict[str, object],
    checkpoint: str | None,
    monitor: str | None,
    background: Background | None = None,
    calibration: Kind = "temperature",
    frozen: Sequence[FrozenPoint] | None = None,
    frozen_sets: ConformalSets | None = None,
    resamples: int = RESAMPLES,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write report.html, report.md, metrics.json, tables/ and figures/ into `directory`.

    With a background that names a run, also MODEL_CARD.md and CHECKLIST.md.

    Args:
        predictions: labelled predictions, out-of-fold or external.
        directory: where to write; made if absent.
        title: heading of the report; where `facts` say that the members were trained on none of
            the images, it also says that these are others.
        histories: fold to history table, for the training curves; None or empty without.
        facts: printed as a small table (config, views, device, versions, ...); "synthetic data", if
            true, and each sentence of the list "warnings" become a warning at the top.
        checkpoint: how each fold's was chosen: "best", "last", "stopped" (early, by the held-out
            fold), or None.
        monitor: the metric that chose the checkpoint; drawn by epoch beside the loss.
        background: what may be told beside the table: config, versions, digests, images.
        calibration, frozen, frozen_sets, resamples, progress: as `gather` takes them.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: a history lacks a column.
    """
    directory, background = Path(directory), background or Background()
    told = _Told(predictions, _named(facts), checkpoint, monitor, calibration, background)
    training = training_section(histories or {}, monitor)
    findings = gather(
        predictions,
        checkpoint=checkpoint,
        calibration=calibration,
        frozen=frozen,
        frozen_sets=frozen_sets,
        resamples=resamples,
        progress=progress,
    )
    warnings = warning_notes(predictions, findings.metrics, told.facts)
    if on_other_images(predictions, told.facts):
        title += ": report on other images"
    document = Document(title, warnings, _sections(told, findings, training))
    write_document(document, directory)
    if background.name:
        _write_cards(told, findings.metrics, directory)
    atomic.write_json(directory / "metrics.json", findings.metrics)
    return findings.metrics


@dataclass(frozen=True)
class _Told:
    """What the sections are written from beside the numbers; fields as `write_report` takes them.

    Attributes:
        facts: with names in the place of paths.
    """

    predictions: Predictions
    facts: dict[str, object]
    checkpoint: str | None
    monitor: str | None
    calibration: Kind
    background: Background


def _named(facts: dict[str, object]) -> dict[str, object]:
    """The facts with names in the place of paths, which say nothing on another machine."""
    told = {"backbone": backbone_name, "weights": initialisation}
    return {
        key: told[key](str(value)) if key in told and value is not None else value
        for key, value in facts.items()
    }


def _sections(told: _Told, findings: Findings, training: Section) -> list[Section]:
    """The sections in the order of reading."""
    predictions, found, background = told.predictions, findings.metrics, told.background
    return [
        answer(predictions, found),
        data_section(
            predictions,
            found,
            checkpoint=told.checkpoint,
            monitor=told.monitor,
            sources=findings.sources,
            facts=told.facts,
        ),
        discrimination_section(predictions, found),
        calibration_section(predictions, found, told.calibration),
        operating_section(findings.calibrated, found),
        benefit_section(found),
        subgroup_section(found),
        lesion_section(found),
        mistakes_section(
            predictions,
            findings.mistakes,
            pictures=background.pictures,
            overlays=background.overlays,
        ),
        uncertainty_section(found),
        training,
        *still_sections(background),
        facts_section(told.facts, background),
    ]


def _write_cards(told: _Told, found: dict, directory: Path) -> None:
    """The model card and the checklists of a run."""
    for file, text in (("MODEL_CARD.md", model_card), ("CHECKLIST.md", checklist)):
        words = text(
            *(told.background.name, told.predictions, found, told.facts),
            checkpoint=told.checkpoint,
            monitor=told.monitor,
        )
        atomic.write_text(directory / file, words)


def write_document(document: Document, directory: Path) -> None:
    """Draw the figures, then write the tables and both pages; what is no longer drawn goes."""
    drawings = {block.name: block for block in document.blocks() if isinstance(block, Figure)}
    for name, drawing in drawings.items():
        drawing.draw(directory / "figures" / f"{name}.png")
    for name in set(FIGURES) - set(drawings):
        for ending in ("png", "svg"):
            (directory / "figures" / f"{name}.{ending}").unlink(missing_ok=True)
    write_tables(document, directory)
    atomic.write_text(directory / "report.md", to_markdown(document, directory))
    atomic.write_text(directory / "report.html", to_html(document, directory))


def remove_report(directory: Path) -> None:
    """Remove what `write_report` wrote into `directory`."""
    for name in FILES:
        (directory / name).unlink(missing_ok=True)
    for name in ("figures", "tables"):
        shutil.rmtree(directory / name, ignore_errors=True)
