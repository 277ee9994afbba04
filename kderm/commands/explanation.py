"""`explain` and `ensemble-predict --explain`: pictures of what speaks for the answers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kderm import console
from kderm.commands.asked import refuse_lost_images, refuse_smaller, refuse_unfinished
from kderm.commands.pieces import say_kept
from kderm.counting import counted
from kderm.data.datasets.image_index import is_image_name
from kderm.errors import UserError
from kderm.run_dir import EXPLANATIONS, RunDir, open_run, runs_root, runs_with
from kderm.runtime import check_backend
from kderm.storage.mirror import bring, holds_run
from kderm.storage.places import is_url, open_place

if TYPE_CHECKING:
    from kderm.ensemble.bundle import Bundle
    from kderm.ensemble.inputs import Inputs


def explain(
    sources: Sequence[str],
    run_name: str | None,
    out: str | None,
    layer: str | None,
    views: str | None,
    each: int | None,
    check: int | None,
    batch_size: int | None,
) -> None:
    """`explain`: of a run (its held-out images), or of images."""
    run = named(sources, run_name)
    if run is None:
        given = {"--each": each, "--check": check}
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise UserError(
                f"{' and '.join(wrong)} belong to the held-out images of a run: explain RUN. "
                f"Received: {', '.join(sources)}, which names images."
            )
        from kderm.commands.prediction import ensemble_predict

        words = [*sources, *([f"predict.batch_size={batch_size}"] if batch_size else [])]
        ensemble_predict(words, run_name, out, views, explain=True, layer=layer)
        return
    if batch_size is not None:
        raise UserError(
            "--batch-size belongs to images; the maps of a run take its predict.batch_size. "
            f"Received: the run {run.name}."
        )
    refuse_smaller(run)
    refuse_unfinished(run, run.oof)
    refuse_lost_images(run)
    check_backend()
    from kderm.explain.of_run import check_run, explain_run, open_for_maps, summary

    directory = Path(out) if out else run.explanations
    opened = open_for_maps(run, layer=layer, views=views)
    with console.progress("explaining held-out images") as report:
        images = explain_run(opened, directory, each=each or 6, progress=report)
    checks, checked = None, []
    if check:
        with console.progress("checking maps") as report:
            checks, checked = check_run(opened, directory, check, report)
    console.say(summary(images, checks, checked))
    console.say(f"Sheets, one a class: {directory}")
    say_kept(directory)


def named(sources: Sequence[str], run_name: str | None) -> RunDir | None:
    """The run that `explain` is to show; None where images are named."""
    if not sources:
        return open_run(run_name)
    if len(sources) == 1 and run_name is None:
        if is_url(sources[0]):
            return open_run(sources[0]) if is_run_at(sources[0]) else None
        if Path(sources[0]).name == sources[0] and not sources[0].startswith(("_", ".")):
            bring(runs_root(), sources[0])
        places = (runs_root() / sources[0], Path(sources[0]))
        of_runs = (RunDir(place) for place in places)
        if any(run.config.is_file() or run.bundle.is_file() for run in of_runs) or (
            RunDir(places[0]).manifest.is_file()
        ):
            return open_run(sources[0])
        if not Path(sources[0]).expanduser().exists() and not any(c in sources[0] for c in "*?["):
            known = ", ".join(runs_with("ensemble.json", runs_root()))
            raise UserError(
                "Expected the name of a run, or images (folders, files, CSVs, patterns). Received: "
                f"{sources[0]}, which is neither. Runs in {runs_root()}/ that are finished: "
                f"{known or 'none'}."
            )
    return None


def is_run_at(url: str) -> bool:
    """Whether a run is kept at `url`, and no images are."""
    if is_image_name(url) or any(c in url for c in "*?["):
        return False
    return holds_run(open_place(url))


def refuse_own_pictures(inputs: "Inputs", directory: Path) -> None:
    """Refuse to explain the pictures that an earlier call drew, which this one would replace.

    Raises:
        UserError: images lie in the folder that explanations are written to.
    """
    place = Path(os.path.realpath(directory / EXPLANATIONS))
    paths = inputs.table["path"]
    inside = [path for path in paths if place in Path(os.path.realpath(path)).parents]
    if inside:
        raise UserError(
            f"The explanations go to {place}, which holds {counted(len(inside), 'input image')}: "
            f"{inside[0]}. Choose another folder with --out, or remove those."
        )


def explain_predictions(
    bundle: "Bundle",
    inputs: "Inputs",
    directory: Path,
    *,
    views: str | None,
    layer: str | None,
    batch_size: int,
) -> None:
    """Draw the maps of images that were just predicted into `directory`, into explanations/."""
    import pandas as pd

    from kderm.ensemble.place import PREDICTIONS
    from kderm.explain.explained import flag_counts
    from kderm.explain.of_images import Ensemble, explain_images

    # Everything is text at first: ids such as "007" and "NA" must survive as they are.
    table = pd.read_csv(directory / PREDICTIONS, dtype=str, keep_default_na=False)
    answered = (table["error"] == "").to_numpy()
    answers = table[answered].reset_index(drop=True)
    for column in bundle.labels.columns:
        answers[column] = pd.to_numeric(answers[column])
    spec = bundle.metadata
    ensemble = Ensemble(
        members=bundle.member_paths,
        labels=bundle.labels,
        spec=bundle.spec,
        views=views or bundle.facts.views,
        layer=layer,
        batch_size=batch_size,
        synthetic=bundle.facts.synthetic,
    )
    place = directory / EXPLANATIONS
    with console.progress("explaining") as report:
        images = explain_images(
            ensemble,
            answers,
            place,
            metadata=None if spec is None else spec.encode(inputs.table[answered]),
            progress=report,
        )
    for words, count in flag_counts(images).items():
        console.say(f"{count:,} of {counted(len(images), 'answer')}: {words}")
    console.say(f"Explanations: {place}")
