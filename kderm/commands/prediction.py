"""`ensemble-predict`: a bundle and any images."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.commands.pieces import known_run
from kderm.runtime import check_backend


def ensemble_predict(
    sources: Sequence[str],
    run_name: str | None,
    out: str | None,
    views: str | None,
    combine: str | None,
    batch_size: int,
    *,
    explain: bool = False,
    challenge: str | None = None,
    prevalence: str | None = None,
    layer: str | None = None,
) -> None:
    """`ensemble-predict`: predictions.csv, a report where labels are known, more if asked for.

    A `prevalence` such as "mel=0.02" states the shares of the classes that answers are corrected
    to.
    """
    check_backend()
    import pandas as pd

    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.inputs import find_inputs
    from kderm.ensemble.place import default_name
    from kderm.ensemble.predictor import ensemble_predict as predict
    from kderm.ensemble.prevalence import stated_prevalence
    from kderm.evaluation.submission import check_challenge, write_submission

    bundle = read_bundle(bundle_path(run_name))
    if challenge:
        check_challenge(bundle.labels, challenge)
    shares = None if prevalence is None else stated_prevalence(bundle, prevalence)
    inputs = find_inputs(sources, bundle.labels)
    directory = Path(out) if out else bundle.directory / "predictions" / default_name(sources)
    if explain:
        from kderm.commands.explanation import explain_predictions, refuse_own_pictures

        refuse_own_pictures(inputs, directory)
    with console.progress("predicting") as report:
        summary = predict(
            bundle,
            inputs,
            directory,
            views=views,
            combine=combine,
            batch_size=batch_size,
            progress=report,
            prevalence=shares,
        )
    console.say(str(summary))
    if challenge:
        submission = directory / f"submission_isic{challenge}.csv"
        # All as text: ids such as "007" and "NA" must survive as they are.
        table = pd.read_csv(summary.predictions, dtype=str, keep_default_na=False)
        write_submission(table, bundle.labels, submission, challenge)
        console.say(f"Submission for ISIC {challenge}: {submission}")
    if explain:
        explain_predictions(
            *(bundle, inputs, directory), views=views, layer=layer, batch_size=batch_size
        )


def bundle_path(run_name: str | None) -> Path:
    """The bundle asked for: a run's name, a folder, or an ensemble.json anywhere."""
    if run_name is not None and Path(run_name).is_file():
        return Path(run_name)
    return known_run(run_name).path
