"""`ensemble-predict`: a bundle and any images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kderm import console
from kderm.commands.asked import refuse_unfinished
from kderm.commands.pieces import known_run, say_kept
from kderm.config.reading import load_config
from kderm.errors import UserError
from kderm.labels import LabelSpace
from kderm.run_dir import RunDir
from kderm.runtime import check_backend

if TYPE_CHECKING:
    from kderm.ensemble.bundle import Bundle
    from kderm.ensemble.inputs import Inputs
    from kderm.ensemble.result import Summary

# What may be said of the config's section `predict` when a finished ensemble predicts.
SETTINGS = ("combine", "precision", "early_exit", "batch_size")


def ensemble_predict(
    sources: Sequence[str],
    run_name: str | None,
    out: str | None,
    views: str | None,
    engine: str = "keras",
    *,
    explain: bool = False,
    challenge: str | None = None,
    prevalence: str | None = None,
    layer: str | None = None,
    combine: str | None = None,
    launcher: str = "local",
) -> None:
    """`ensemble-predict`: predictions.csv, a report where labels are known, more if asked for.

    Among `sources` there may be `predict.KEY=VALUE`, see `split_settings`. A `prevalence` such as
    "mel=0.02" states the shares of the classes that answers are corrected to. The `launcher` "ray"
    predicts on the Ray cluster at RAY_ADDRESS, else on one of this machine.
    """
    if explain and launcher == "ray":
        raise UserError(
            "--explain belongs to --launcher local: maps are drawn on this machine. Predict with "
            "--launcher ray, then explain some of the images: explain IMAGES --run RUN"
        )
    sources, settings = split_settings(sources)
    settings |= {} if combine is None else {"combine": combine}
    if engine == "keras" or explain:  # an exported engine needs no backend
        check_backend()
    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.place import default_name, settings_name
    from kderm.ensemble.prevalence import stated_prevalence
    from kderm.evaluation.submission import check_challenge

    bundle = read_bundle(bundle_path(run_name))
    if challenge:
        check_challenge(bundle.labels, challenge)
    shares = None if prevalence is None else stated_prevalence(bundle, prevalence)
    asked = {"views": views, "engine": engine, **settings}
    name = default_name(sources) + settings_name(bundle, asked, shares.stated if shares else {})
    directory = Path(out) if out else RunDir(bundle.directory).predictions / name
    asked["prevalence"] = shares
    if launcher == "ray":
        summary = predict_on_cluster(bundle, sources, directory, asked)
        inputs = None
    else:
        inputs, summary = predict_here(bundle, sources, directory, asked, explain=explain)
    console.say(str(summary))
    if summary.unreadable == summary.images:
        keep(directory)
        raise UserError(nothing_answered(summary))
    if challenge:
        submit(summary.predictions, bundle.labels, challenge)
    if explain:
        from kderm.commands.explanation import explain_predictions

        explain_predictions(
            *(bundle, inputs, directory),
            views=views,
            layer=layer,
            batch_size=settings.get("batch_size", 32),
        )
    keep(directory)


def nothing_answered(summary: "Summary") -> str:
    """What to say where not one image could be read: the commonest reason and where all are."""
    import pandas as pd

    reasons = pd.read_csv(summary.predictions, dtype=str, keep_default_na=False)["error"]
    reason, count = next(iter(reasons.value_counts().items()))
    most = "" if summary.images == 1 else f" of {count} of them"
    return (
        f"Expected images that can be read. Received: {summary.images}, and not one can. The "
        f"reason{most}: {reason}. Every image has its reason in the column 'error' of "
        f"{summary.predictions}."
    )


def keep(directory: Path) -> None:
    """Copy the result to the URL where its run lives, if it does and may be written to.

    Whoever predicts with another's ensemble need not have the right.
    """
    try:
        say_kept(directory)
    except UserError as error:
        console.warn(f"the result stays in {directory}/ alone: {error}")


def predict_here(
    bundle: "Bundle", sources: Sequence[str], directory: Path, asked: dict, *, explain: bool
) -> tuple["Inputs", "Summary"]:
    """Predict in this process; what was found and the summary."""
    from kderm.ensemble.inputs import find_inputs
    from kderm.ensemble.predictor import ensemble_predict as predict

    inputs = find_inputs(sources, bundle.labels)
    if explain:
        from kderm.commands.explanation import refuse_own_pictures

        refuse_own_pictures(inputs, directory)
    with console.progress("predicting") as report:
        return inputs, predict(bundle, inputs, directory, progress=report, **asked)


def predict_on_cluster(
    bundle: "Bundle", sources: Sequence[str], directory: Path, asked: dict
) -> "Summary":
    """Predict on a Ray cluster; the summary."""
    from kderm.cluster.connection import import_ray

    import_ray()  # a missing extra is told before images are listed
    from kderm.ensemble.cluster.run import predict_on_cluster as predict

    with console.progress("predicting") as report:
        return predict(bundle, sources, directory, progress=report, **asked)


def submit(predictions: Path, labels: LabelSpace, challenge: str) -> None:
    """Write the submission to an ISIC challenge beside predictions.csv."""
    import pandas as pd

    from kderm.evaluation.submission import write_submission

    submission = predictions.parent / f"submission_isic{challenge}.csv"
    # All as text: ids such as "007" and "NA" must survive as they are.
    table = pd.read_csv(predictions, dtype=str, keep_default_na=False)
    write_submission(table, labels, submission, challenge)
    console.say(f"Submission for ISIC {challenge}: {submission}")


def split_settings(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The images among `words`, and the values of `predict.KEY=VALUE` for a KEY of `SETTINGS`.

    Raises:
        UserError: another key, a value out of range, or no image at all.
    """
    given = [word for word in words if word.startswith("predict.") and "=" in word]
    images = [word for word in words if word not in given]
    keys = [word.partition("=")[0].removeprefix("predict.") for word in given]
    values = load_config(None, given).predict.model_dump()
    options = {"views": "--views"}
    for key in keys:
        if key not in SETTINGS:
            do = f"It is an option here: {options[key]}." if key in options else ""
            raise UserError(
                f"Expected predict.{', predict.'.join(SETTINGS)} beside the images. Received: "
                f"predict.{key}. {do or 'It belongs to cv and evaluate.'}"
            )
    if not images:
        raise UserError("Expected images: folders, files, CSVs or patterns. Received: none.")
    return images, {key: values[key] for key in keys}


def bundle_path(run_name: str | None) -> Path:
    """The bundle asked for: a run's name, a folder, or an ensemble.json anywhere."""
    if run_name is not None and Path(run_name).is_file():
        return Path(run_name)
    run = known_run(run_name)
    refuse_unfinished(run, run.bundle)
    return run.path
