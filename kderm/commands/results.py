"""`evaluate`: reports, from saved tables or on images from elsewhere."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kderm import console
from kderm.commands.pieces import SYNTHETIC, exclusive, is_demo
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.run_dir import RunDir, open_run
from kderm.runtime import check_backend

if TYPE_CHECKING:
    from kderm.evaluation.report.reproduction import Background

# Pixels across a picture of the report.
THUMBNAIL = 240


def evaluate(run_name: str | None) -> None:
    """`evaluate`: the ensemble and the report again, from the saved tables."""
    run = open_run(run_name)
    with exclusive(run):
        conclude(run)


def evaluate_external(
    run_name: str | None, sources: Sequence[str], out: str | None, overlap: str
) -> None:
    """`evaluate --external`: audit the overlap with the run's images, then predict and report."""
    check_backend()
    from kderm.ensemble.external import evaluate_external as evaluate_images

    run = open_run(run_name)
    console.say(evaluate_images(run, sources, out=Path(out) if out else None, overlap=overlap))


def conclude(run: RunDir) -> None:
    """Join the out-of-fold tables, write the report and the bundle, print the headline."""
    from kderm.ensemble.bundle import join_oof, write_bundle
    from kderm.evaluation.report.write import write_report

    predictions = join_oof(run)
    config = load_config(run.config)
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
            facts=run_facts(run, config),
            checkpoint=checkpoint_choice(config),
            monitor=config.train.monitor,
            background=background(run, config, stills),
            progress=report,
        )
    rows = []
    for name in ("macro_auc", "balanced_accuracy", "macro_f1"):
        pooled, spread = metrics["pooled"][name], metrics["fold_mean"][name]
        interval = f"{number(pooled['low'])} to {number(pooled['high'])}"
        folds = f"{number(spread['mean'])} +- {number(spread['sd'])}"
        rows.append([name, number(pooled["value"]), interval, folds])
    console.say("\n" + console.table(rows, ["out-of-fold", "pooled", "95 % interval", "folds"]))
    console.say(f"\nReport: {run.report.with_suffix('.html')}")
    gone = [fold for fold in range(config.folds.k) if not run.fold(fold).model.exists()]
    if gone:
        console.warn(f"no ensemble is written: folds {gone} have no model.keras here")
    else:
        write_bundle(run)


def background(run: RunDir, config: Config, stills: dict[str, Path]) -> "Background":
    """What the report tells of the run beside its predictions."""
    from kderm.evaluation.report.reproduction import Background

    environment = read_json(run.environment)
    own = {key: environment[key] for key in ("kderm", "keras", "python") if key in environment}
    return Background(
        config=run.config.read_text(encoding="utf-8"),
        versions=own | environment.get("packages", {}),
        digests=digests(run, config),
        stills=stills,
        pictures=picture_reader(run, config),
    )


def digests(run: RunDir, config: Config) -> dict[str, str]:
    """SHA-256 of what the numbers hang on: the tables as they are, the members as trained."""
    tables = {path.name: path for path in (run.oof, run.folds, run.manifest) if path.exists()}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in tables.items()}
    for fold in range(config.folds.k):
        found[f"fold_{fold}/model.keras"] = read_json(run.fold(fold).done)["model_sha256"]
    return found | {"the config": config.digest}


def picture_reader(run: RunDir, config: Config) -> Callable[[Sequence[str]], dict]:
    """Brings the run's images by id, as many as are still there."""

    def read(ids: Sequence[str]) -> dict:
        from kderm.data.images import ImageSpec, UnreadableImage, read_image
        from kderm.data.manifest import read_manifest
        from kderm.labels import label_space

        labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
        try:
            paths = read_manifest(run.manifest, labels).table.set_index("image_id")["path"]
        except UserError:
            return {}
        found = {}
        for image_id in paths.index.intersection(list(ids)):
            # The report is made of tables: a picture that is gone costs itself alone.
            with contextlib.suppress(UnreadableImage):
                found[image_id] = read_image(paths[image_id], ImageSpec(THUMBNAIL, THUMBNAIL))
        return found

    return read


def checkpoint_choice(config: Config) -> str:
    """How the report is told that a fold's weights were chosen: best, last or stopped."""
    train = config.train
    if train.checkpoint == "best":
        return "best"
    # Both ask the held-out fold when to stop or to slow down.
    watched = train.patience is not None or train.schedule == "plateau"
    return "stopped" if watched else "last"


def number(value: float | None) -> str:
    """Three decimals, or "n/a" where a value is undefined."""
    return "n/a" if value is None else f"{value:.3f}"


def run_facts(run: RunDir, config: Config) -> dict[str, object]:
    """The facts table of the report."""
    environment = read_json(run.environment)
    done = [read_json(run.fold(fold).done) for fold in range(config.folds.k)]

    def over_folds(key: str) -> str:
        return " / ".join(sorted({str(fold[key]) for fold in done}))

    facts: dict[str, object] = {"synthetic data": SYNTHETIC} if is_demo(config) else {}
    if config.data.pseudo_labels:
        from kderm.ensemble.pseudo import CAUTION

        facts["warnings"] = [f"Learnt from {config.data.pseudo_labels} besides. {CAUTION}"]
    return facts | {
        "data set": config.data.title,
        "backbone": config.model.preset,
        "weights": config.model.weights,
        "parameters": f"{done[0]['parameters']:,}",
        "input": f"{config.image.size} px, cut from {config.image.stored_shape} (h, w)",
        "loss": config.loss.name,
        "balancing": balancing(config),
        "epochs": f"{config.train.epochs} ({config.train.frozen_epochs} with a frozen backbone)",
        "views": config.predict.views,
        "device": over_folds("device"),
        "backend": over_folds("backend"),
        "precision": over_folds("precision"),
        "training time": f"{sum(fold['seconds'] for fold in done) / 60:.1f} min",
        "versions": f"kderm {environment['kderm']}, keras {environment['keras']}",
        "config digest": config.digest[:12],
    }


def balancing(config: Config) -> str:
    """How rare classes were made to count, in a few words."""
    balance = config.balance
    if not balance.by:
        return "none"
    strength = {"repeat": ", ".join(f"{code} x{times}" for code, times in balance.repeat.items())}
    return " and ".join(f"{by} ({strength.get(by, balance.scheme)})" for by in balance.by)


def read_json(path: Path) -> dict:
    """A JSON file that a run must have."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a JSON file of a finished run at {path}. Received: {error}. Copy the whole "
            "folder of the run (only model.keras may be left out), or train the fold anew."
        ) from None


def read_histories(run: RunDir, config: Config) -> dict:
    """Fold to history table, of the folds that have one."""
    import pandas as pd

    paths = {fold: run.fold(fold).history for fold in range(config.folds.k)}
    return {fold: pd.read_csv(path) for fold, path in paths.items() if path.exists()}
