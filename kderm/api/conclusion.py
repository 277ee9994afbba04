"""What follows the last fold: the out-of-fold table, the report, the bundle, the unlike score.

The same for the verbs `cv` and `evaluate` and for `kderm.cross_validate`.
"""

import json
from pathlib import Path

from kderm import console
from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.run_dir import RunDir

SYNTHETIC = "SYNTHETIC DATA: drawn by a program, not photographs. Its numbers say nothing medical."


def conclude_run(run: RunDir) -> dict:
    """Join the out-of-fold tables, write the report and the bundle.

    Returns:
        the content of metrics.json.

    Raises:
        UserError: folds that are missing, or files of a fold that are not its own.
    """
    import pandas as pd

    from kderm.api.background import run_background
    from kderm.api.report_facts import checkpoint_choice, read_histories, run_facts
    from kderm.ensemble.bundle import join_oof
    from kderm.evaluation.report.write import write_report
    from kderm.evaluation.subgroups import with_columns, with_found_columns

    predictions = join_oof(run)
    if run.about_images.exists():
        about = pd.read_csv(run.about_images, dtype=str, keep_default_na=False)
        predictions = with_columns(predictions, about)
    predictions, unjoined = with_found_columns(predictions, run.image_quality)
    for warning in unjoined:
        console.warn(warning)
    config = load_config(run.config)
    facts = run_facts(run, config)
    if unjoined:
        facts["warnings"] = [*facts.get("warnings", []), *unjoined]
    stills = {}
    if config.predict.grad_cam:
        from kderm.explain.figure import grad_cam_figure

        try:
            grad_cam_figure(run, run.grad_cam)
            stills["What the members look at"] = run.grad_cam
        except UserError as error:  # members or images that are gone cost the picture alone
            console.warn(f"no activation maps: {error}")
    with console.progress("resampling groups for the intervals") as report:
        metrics = write_report(
            predictions,
            run.path,
            title=f"Out-of-fold report of {run.name}",
            histories=read_histories(run, config),
            facts=facts,
            checkpoint=checkpoint_choice(config),
            monitor=config.train.monitor,
            calibration=config.predict.calibration,
            background=run_background(run, config, stills),
            progress=report,
        )
    write_ensemble(run)
    return metrics


def write_ensemble(run: RunDir) -> None:
    """Write the bundle of a finished run, unless members are gone.

    Raises:
        UserError: folds that are missing, or files of a fold that are not its own.
    """
    from kderm.ensemble.bundle import write_bundle

    config = load_config(run.config)
    gone = [fold for fold in range(config.folds.k) if not run.fold(fold).model.exists()]
    if gone:
        console.warn(f"no ensemble is written: folds {gone} have no model.keras here")
    else:
        write_bundle(run, config.predict.calibration)


def learn_likeness(run: RunDir) -> None:
    """Give a run's bundle the score of images unlike its own, unless it has one or cannot."""
    if not run.bundle.exists():
        return
    from kderm.ensemble.unlike_fit import add_unlike

    try:
        with console.progress("learning what the run's images look like") as report:
            add_unlike(run, progress=report)
    except UserError as error:  # few or lost images cost the score alone
        console.warn(f"no score of unlike images: {error}")


def read_json(path: Path) -> dict:
    """A JSON file that a run must have."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a JSON file of a finished run at {path}. Received: {error}. Copy the whole "
            "folder of the run (only model.keras may be left out), or train the fold anew."
        ) from None
