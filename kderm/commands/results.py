"""`evaluate`: reports, from saved tables or on images from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.atomic import write_csv
from kderm.commands.asked import refuse_smaller, refuse_unfinished
from kderm.commands.pieces import SYNTHETIC, exclusive, is_demo, known_run, read_json
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.evaluation.report.provenance import DERMOSCOPIC, PICTURES
from kderm.run_dir import RunDir
from kderm.runtime import check_backend

# How the pictures of each kind of data set were taken; "" where only their author knows.
MODALITIES = {
    "demo": "drawings by a program",
    "ham10000": DERMOSCOPIC,
    "isic2018": DERMOSCOPIC,
    "isic2019": DERMOSCOPIC,
    "isic2020": DERMOSCOPIC,
    "isic2024": "crops of total-body photographs",
    "pad_ufes20": "smartphone photographs",
    "isic_archive": "",
    "class_folders": "",
    "table": "",
}


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
            f"{own['image_id'].iloc[0]}. Received: {len(table)} row(s), none of them of this run, "
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
        said += f"; {strangers:,} row(s) are of other images"
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
    import pandas as pd

    from kderm.commands.background import run_background
    from kderm.ensemble.bundle import join_oof, write_bundle
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
        write_bundle(run, config.predict.calibration)


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
    if warnings := lessons(config):
        facts["warnings"] = warnings
    return facts | {
        "data set": config.data.title,
        "backbone": config.model.preset,
        "weights": config.model.weights,
        "parameters": f"{done[0]['parameters']:,}",
        PICTURES: modality(config),
        "input": input_words(config),
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


def input_words(config: Config) -> str:
    """What a member sees of an image."""
    size, (height, width) = config.image.size, config.image.stored_shape
    return f"{size} × {size} px, cut from images kept at {width} × {height} px (width × height)"


def modality(config: Config) -> str | None:
    """How the run's pictures were taken, as its kinds of data set tell; None where one does not."""
    kinds = [source.dataset for source in config.data.sources] or [config.data.dataset]
    told = dict.fromkeys(MODALITIES[kind] for kind in kinds)
    return None if "" in told else " and ".join(told)


def lessons(config: Config) -> list[str]:
    """What to say of scores that others' answers may have made too good."""
    said = []
    if config.data.pseudo_labels:
        from kderm.ensemble.pseudo import CAUTION

        said.append(f"Learnt from {config.data.pseudo_labels} besides. {CAUTION}")
    if config.distil.teacher:
        from kderm.training.teacher import CAUTION as TAUGHT

        said.append(f"Learnt from the answers of {config.distil.teacher} besides. {TAUGHT}")
    return said


def balancing(config: Config) -> str:
    """How rare classes were made to count, in a few words."""
    balance = config.balance
    if not balance.by:
        return "none"
    strength = {"repeat": ", ".join(f"{code} x{times}" for code, times in balance.repeat.items())}
    return " and ".join(f"{by} ({strength.get(by, balance.scheme)})" for by in balance.by)


def read_histories(run: RunDir, config: Config) -> dict:
    """Fold to history table, of the folds that have one."""
    import pandas as pd

    paths = {fold: run.fold(fold).history for fold in range(config.folds.k)}
    return {fold: pd.read_csv(path) for fold, path in paths.items() if path.exists()}
