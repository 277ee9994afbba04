"""`evaluate --external`: images from elsewhere, without those that the members were trained on.

Leaves out what `kderm.ensemble.comparison` finds in the run too, and has the rest predicted and
reported by `kderm.ensemble.predictor`. `overlap.csv` beside the report says what was left out, or
what was kept.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from kderm import console
from kderm.atomic import write_csv
from kderm.counting import counted
from kderm.data.datasets.challenge import SYNTHETIC
from kderm.data.overlap import global_id
from kderm.ensemble.bundle import read_bundle
from kderm.ensemble.comparison import compare
from kderm.ensemble.inputs import Inputs, find_inputs
from kderm.ensemble.place import check_directory, default_name, told_clearly
from kderm.ensemble.predictor import ensemble_predict
from kderm.errors import UserError
from kderm.run_dir import RunDir

OVERLAP = "overlap.csv"


def evaluate_external(
    run: RunDir,
    sources: Sequence[str],
    *,
    out: Path | None = None,
    overlap: Literal["remove", "keep"] = "remove",
) -> str:
    """Audit the overlap of labelled images with a run's own, predict the rest, and report.

    Args:
        run: a finished run.
        sources: folders of class folders, CSVs and patterns; see `find_inputs`. Labels of other
            label spaces are translated where that is possible for sure; images of classes that the
            run does not have are left out.
        out: where results go; by default `runs/<run>/external/<name>/`, with overlap="keep"
            `<name>_with_overlap/`, so that it replaces no clean result.
        overlap: what is done about images that the run has too.

    Returns:
        What was found and done, for people.

    Raises:
        UserError: no image has a known label, none is left, or the folder holds other results.
    """
    bundle = read_bundle(run.path)
    inputs = _without_synthetic(find_inputs(sources, bundle.labels, translate=True))
    _refuse_unlabelled(inputs, sources)
    suffix = "_with_overlap" if overlap == "keep" else ""
    directory = out or run.external / f"{default_name(sources)}{suffix}"
    if out is None:
        _refuse_other_sources(directory, inputs)
    check_directory(directory, inputs)
    found = compare(run, bundle, inputs)
    told = found.found(len(inputs))
    notes, warnings = inputs.notes, (*found.warnings, *found.contradictions())
    kept = inputs
    if overlap == "keep" and len(found.table):
        warnings = (f"{told}; KEPT, so this is no test of unseen images", *warnings)
    else:
        notes = (*notes, f"{told}; left out" if len(found.table) else told)
        kept = _without(inputs, set(found.table["image_id"]))
    if not kept.labelled:
        raise UserError(
            f"Nothing is left to score: the run {run.name!r} was trained on all that is labelled "
            f"here, {counted(inputs.labelled, 'image')}. Choose other images, or score these all "
            "the same with --overlap keep."
        )
    with told_clearly(directory):
        write_csv(directory / OVERLAP, found.table)
    with console.progress("predicting") as report:
        kept = replace(kept, notes=notes, warnings=warnings)
        summary = ensemble_predict(bundle, kept, directory, progress=report)
    return f"{summary}\nOverlap: {directory / OVERLAP}"


def _without(inputs: Inputs, image_ids: set[str]) -> Inputs:
    stays = ~inputs.table["image_id"].isin(image_ids)
    return replace(inputs, table=inputs.table[stays].reset_index(drop=True))


def _without_synthetic(inputs: Inputs) -> Inputs:
    """Without the one picture of the ISIC 2018 test that was made, not taken."""
    names = zip(inputs.table["image_id"], inputs.table["path"], strict=True)
    made = {name for name, path in names if SYNTHETIC.lower() in (global_id(name), global_id(path))}
    if not made:
        return inputs
    note = f"{SYNTHETIC} is synthetic (the official score leaves it out too) and left out"
    return replace(_without(inputs, made), notes=(*inputs.notes, note))


def _refuse_unlabelled(inputs: Inputs, sources: Sequence[str]) -> None:
    if not inputs.labelled:
        raise UserError(
            "Expected images with labels to score: class folders, or a CSV with a label column. "
            f"Received {counted(len(inputs), 'image')} without any in "
            f"{', '.join(map(str, sources))}."
            f"{''.join(f' Besides, {note}.' for note in inputs.notes)} For predictions without a "
            "report use the command ensemble-predict."
        )


def _refuse_other_sources(directory: Path, inputs: Inputs) -> None:
    """Names come from the sources, and two folders "images" have one name."""
    try:
        known = json.loads((directory / "sources.json").read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if sorted(known) != sorted(inputs.sources):
        raise UserError(
            f"{directory} holds the results of other images: {', '.join(known[:3])}. Received: "
            f"{', '.join(inputs.sources[:3])}. Choose another folder with --out."
        )
