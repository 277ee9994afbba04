"""The report, rebuilt from the predictions table alone: pages, numbers, tables and pictures.

Reads a `Predictions` table and, where they exist, the training histories. Must stay free of Keras,
so that a report can be rebuilt anywhere, years later, without a model or an image.
"""

import shutil
from collections.abc import Callable, Sequence
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
from kderm.evaluation.report.document import Document, Figure
from kderm.evaluation.report.evidence import data_section
from kderm.evaluation.report.findings import Findings, gather
from kderm.evaluation.report.markdown import to_markdown
from kderm.evaluation.report.mistakes import confident_mistakes, mistakes_section
from kderm.evaluation.report.model_card import model_card
from kderm.evaluation.report.page import to_html
from kderm.evaluation.report.probabilities import calibration_section
from kderm.evaluation.report.provenance import warning_notes
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
        title: heading of the report.
        histories: fold to history table, for the training curves; None or empty without.
        facts: printed as a small table (config, preset, views, device, seconds, versions, ...);
            the entry "synthetic data", if there and true, becomes a warning at the top, and so
            does each sentence of the list "warnings".
        checkpoint: how each fold's checkpoint was chosen: "best", "last", "stopped" (the last one
            before early stopping on the held-out fold), or None if unknown.
        monitor: the metric that chose the checkpoint; also the one drawn by epoch, unless it is
            the loss, which is drawn anyway.
        background: what may be told beside the table: config, versions, digests, images.
        calibration: how the folds calibrate each other, as the bundle is calibrated.
        frozen: operating points chosen before, on the scale of these predictions.
        frozen_sets: conformal sets fitted before, on the same scale.
        resamples: bootstrap resamples.
        progress: called with (resamples done, resamples).

    Returns:
        The content of metrics.json.

    Raises:
        UserError: a history lacks a column.
    """
    directory, background = Path(directory), background or Background()
    facts = _named(facts)
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
    found = findings.metrics
    mistakes = confident_mistakes(predictions)
    found["confident_mistakes"] = mistakes.to_dict("records")
    found["scaling"] = calibration if found["calibration_report"]["scaling"] else None
    document = Document(
        title,
        warning_notes(found, facts),
        [
            answer(predictions, found),
            data_section(
                predictions,
                found,
                checkpoint=checkpoint,
                monitor=monitor,
                sources=findings.sources,
            ),
            *_numbers(predictions, findings, calibration),
            subgroup_section(found),
            lesion_section(found),
            mistakes_section(
                predictions,
                mistakes,
                pictures=background.pictures,
                overlays=background.overlays,
            ),
            uncertainty_section(found),
            training,
            *still_sections(background),
            facts_section(facts, background),
        ],
    )
    write_document(document, directory)
    if background.name:
        for file, text in (("MODEL_CARD.md", model_card), ("CHECKLIST.md", checklist)):
            words = text(
                background.name, predictions, found, facts, checkpoint=checkpoint, monitor=monitor
            )
            atomic.write_text(directory / file, words)
    atomic.write_json(directory / "metrics.json", found)
    return found


def _named(facts: dict[str, object]) -> dict[str, object]:
    """The facts with names in the place of paths, which say nothing on another machine."""
    told = {"backbone": backbone_name, "weights": initialisation}
    return {
        key: told[key](str(value)) if key in told and value is not None else value
        for key, value in facts.items()
    }


def _numbers(predictions: Predictions, findings: Findings, calibration: Kind) -> list:
    """The sections between the data and the errors."""
    found = findings.metrics
    return [
        discrimination_section(predictions, found),
        calibration_section(predictions, found, calibration),
        operating_section(findings.calibrated, found),
        benefit_section(found),
    ]


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
