"""`evaluate`: reports, from saved tables or on images from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.api.conclusion import conclude_run
from kderm.atomic import write_csv
from kderm.commands.asked import refuse_smaller, refuse_unfinished
from kderm.commands.pieces import exclusive, known_run
from kderm.counting import counted
from kderm.errors import UserError
from kderm.run_dir import RunDir
from kderm.runtime import check_backend


def evaluate(run_name: str | None, about: str | None = None) -> None:
    """`evaluate`: the ensemble and the report again, from the saved tables.

    With `about`, a CSV of what else is known of the images; the run keeps a copy.
    """
    run = known_run(run_name)
    refuse_smaller(run)
    with exclusive(run, "evaluate"):
        if about is not None:
            console.say(keep_about(run, Path(about)))
        conclude(run)


def keep_about(run: RunDir, path: Path) -> str:
    """Copy a CSV with image_id and attributes of the images into the run, checked.

    Returns:
        Of how many of the run's images it knows something, and which columns do not count.
    """
    import pandas as pd

    from kderm.ensemble.bundle import join_oof
    from kderm.evaluation.attributes import ATTRIBUTE_COLUMNS, attributes_of
    from kderm.evaluation.subgroups import check_further

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"Expected a CSV in --about. Received: {path} ({why}).") from None
    check_further(table, str(path))
    if not attributes_of(table)[0]:
        raise UserError(
            f"Expected in {path}, beside image_id, at least one of "
            f"{', '.join(ATTRIBUTE_COLUMNS)}, with something in it. Received: "
            f"{', '.join(table.columns)}."
        )
    own = join_oof(run).table
    known = own["image_id"].isin(table["image_id"])
    if not known.any():
        raise UserError(
            f"Expected in {path} the image_id of images of {run.name}, such as "
            f"{own['image_id'].iloc[0]}. Received: {counted(len(table), 'row')}, none of this run, "
            f"such as {', '.join(table['image_id'][:1])}."
        )
    taken = [name for name in table.columns if name in own and name != "image_id"]
    further = table.drop(columns=taken)
    if not attributes_of(further[table["image_id"].isin(own["image_id"])])[0]:
        what = (
            f"only {', '.join(taken)}, which the run has already and keeps" if taken else "nothing"
        )
        raise UserError(
            f"Expected in {path} something about the run's images that the run does not know. "
            f"Received: {what}. To correct what a data set says, mend its table and train anew."
        )
    write_csv(run.about_images, table)
    said = f"{path}: about {known.sum():,} of the run's {len(own):,} images"
    if strangers := len(table) - int(known.sum()):
        said += f"; {counted(strangers, 'row')} of other images"
    if taken:
        said += f"; {', '.join(taken)} stay those of the run"
    return f"{said}."


def evaluate_external(
    run_name: str | None, sources: Sequence[str], out: str | None, overlap: str
) -> None:
    """`evaluate --external`: audit the overlap with the run's images, then predict and report."""
    check_backend()
    from kderm.ensemble.external import evaluate_external as evaluate_images

    run = known_run(run_name)
    refuse_unfinished(run, run.bundle)
    console.say(evaluate_images(run, sources, out=Path(out) if out else None, overlap=overlap))


def conclude(run: RunDir) -> None:
    """Join the out-of-fold tables, write the report and the bundle, print the headline."""
    metrics = conclude_run(run)
    rows = []
    for name in ("macro_auc", "balanced_accuracy", "macro_f1"):
        pooled, spread = metrics["pooled"][name], metrics["fold_mean"][name]
        interval = f"{number(pooled['low'])} to {number(pooled['high'])}"
        folds = f"{number(spread['mean'])} +- {number(spread['sd'])}"
        rows.append([name, number(pooled["value"]), interval, folds])
    console.say("\n" + console.table(rows, ["out-of-fold", "pooled", "95 % interval", "folds"]))
    console.say(f"\nReport: {run.report.with_suffix('.html')}")


def number(value: float | None) -> str:
    """Three decimals, or "n/a" where a value is undefined."""
    return "n/a" if value is None else f"{value:.3f}"
