"""What each verb of the command line does: call the rooms in order and tell what came of it."""

import contextlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from kderm import console, run_dir
from kderm.atomic import locked
from kderm.config import Config, load_config
from kderm.errors import UserError
from kderm.run_dir import RunDir, open_run, runs_root
from kderm.runtime import check_backend

SYNTHETIC = "SYNTHETIC DATA: drawn by a program, not photographs. Its numbers say nothing medical."


def prepare(config_path: str | None, run_name: str | None, overrides: Sequence[str]) -> None:
    """`prepare`: manifest, image store, folds; print the class table and the leakage."""
    config, run = load_config(config_path, overrides), named_run(config_path, run_name)
    from kderm.data.prepare import prepare as prepare_data
    from kderm.training.crossval import refuse_other_config

    with exclusive(run):
        refuse_other_config(config, run)
        describe(prepare_data(config, run))
    console.say(f"\nNext: {command_line('cv', config_path, run_name, overrides)}")


def cross_validate(
    config_path: str | None, run_name: str | None, folds: int | None, overrides: Sequence[str]
) -> None:
    """`cv`: all folds, then the ensemble and the report."""
    if folds is not None:
        overrides = [*overrides, f"folds.k={folds}"]
    config, run = load_config(config_path, overrides), named_run(config_path, run_name)
    announce(config, run)
    from kderm.training.crossval import cross_validate as train_all

    with exclusive(run):
        train_all(config, run, show=describe)
        conclude(run)
    images = unseen_demo(config) if is_demo(config) else "YOUR_IMAGES/"
    again = shlex.join(["ensemble-predict", str(images), "--run", run.name])
    console.say(f"\nNext: {console.program()} {again}")


def train(
    config_path: str | None, run_name: str | None, fold: int, overrides: Sequence[str]
) -> None:
    """`train --fold K`: one member."""
    config, run = load_config(config_path, overrides), named_run(config_path, run_name)
    announce(config, run)
    from kderm.training.crossval import cross_validate as train_some

    with exclusive(run):
        train_some(config, run, folds=[fold], show=describe)
    left = [number for number in range(config.folds.k) if not run.fold(number).is_done]
    if left:
        options = command_line(f"train --fold {left[0]}", config_path, run_name, overrides)
        console.say(f"\nFolds left: {', '.join(map(str, left))}. Next: {options}")
    else:
        console.say(f"\nAll folds are finished. Next: {console.program()} evaluate {run.name}")


def evaluate(run_name: str | None) -> None:
    """`evaluate`: the ensemble and the report again, from the saved tables."""
    run = open_run(run_name)
    with exclusive(run):
        conclude(run)


def ensemble_predict(
    sources: Sequence[str],
    run_name: str | None,
    out: str | None,
    views: str | None,
    combine: str | None,
    batch_size: int,
) -> None:
    """`ensemble-predict`: predictions.csv, and a report where labels are known."""
    check_backend()
    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.inputs import find_inputs
    from kderm.ensemble.predictor import ensemble_predict as predict

    bundle = read_bundle(bundle_path(run_name))
    inputs = find_inputs(sources, bundle.labels)
    directory = Path(out) if out else bundle.directory / "predictions" / default_name(sources)
    with console.progress("predicting") as report:
        summary = predict(
            bundle,
            inputs,
            directory,
            views=views,
            combine=combine,
            batch_size=batch_size,
            progress=report,
        )
    console.say(str(summary))


def weights_list(part: str) -> None:
    """`weights list`: the registry and where each row's weights are."""
    from kderm.models.weights import list_weights

    found = list_weights()
    found = found[found["preset"].str.contains(part, case=False, regex=False)]
    if found.empty:
        raise UserError(f"No preset's name contains {part!r}. See all with: weights list")
    console.say(console.table(found.fillna("").to_numpy().tolist(), list(found.columns)))


def weights_fetch(preset: str, into: str | None) -> None:
    """`weights fetch`: download for a machine with no network."""
    check_backend()
    from kderm.models.weights import fetch_weights, weights_root

    path = fetch_weights(preset, Path(into) if into else weights_root())
    console.say(f"{preset}: {path}\nUse it with: model.preset={preset} model.weights={path}")


def doctor() -> None:
    """`doctor`: what works here."""
    from kderm.doctor import examine

    console.say(console.table(examine(), ["what", "state"]))


# === Pieces ===


def named_run(config_path: str | None, run_name: str | None) -> RunDir:
    """The folder of the run: by its name, else by the config file's name, else "demo"."""
    name = run_name or (Path(config_path).stem if config_path else "demo")
    if name.startswith(("_", ".")) or "/" in name or os.sep in name:
        raise UserError(
            "A run's name is one folder name that begins with a letter or a digit. "
            f"Received: {name!r}. Choose another with --run NAME."
        )
    return RunDir(runs_root() / name)


def bundle_path(run_name: str | None) -> Path:
    """The bundle asked for: a run's name, a folder, or an ensemble.json anywhere."""
    if run_name is not None and Path(run_name).is_file():
        return Path(run_name)
    return open_run(run_name).path


def default_name(sources: Sequence[str]) -> str:
    """A folder name for the predictions of `sources`."""
    name = Path(sources[0]).resolve().stem.replace("*", "_") or "images"
    return name if len(sources) == 1 else f"{name}_and_{len(sources) - 1}_more"


def command_line(
    verb: str, config_path: str | None, run_name: str | None, overrides: Sequence[str]
) -> str:
    """The command that does `verb` with the same options."""
    words = [*verb.split()]
    words += ["--config", config_path] if config_path else []
    words += ["--run", run_name] if run_name else []
    return f"{console.program()} {shlex.join([*words, *overrides])}"


def exclusive(run: RunDir) -> contextlib.AbstractContextManager:
    """Hold the run's lock."""
    return locked(
        run.path,
        f"Another command is writing the run {run.name!r}. Wait for it, or choose another name "
        "with --run NAME.",
    )


def announce(config: Config, run: RunDir) -> None:
    """Say what begins, loudly so where the data are not real."""
    backend = check_backend()
    if is_demo(config):
        console.say(f"*** {SYNTHETIC} ***")
    console.say(
        f"run {run.name} in {run.path}/ on {backend}: {config.model.preset} at {config.image.size} "
        f"px, {config.folds.k} folds, {config.train.epochs} epochs"
    )


def describe(data) -> None:
    """Print what is in the data set, the class table per fold, and the leakage it avoids."""
    from kderm.data.folds import class_table, leaked_images

    folds = data.folds
    table = class_table(folds)
    groups = folds.table["group_id"].nunique()
    if folds.absent:
        console.warn(f"{folds.absent} images of {data.folds_path} are not in this data set")
    for reason, count in data.manifest.dropped.items():
        console.warn(f"{count} images dropped: {reason}")
    for note in data.notes:
        console.warn(note)
    console.say(f"{len(folds.table)} images in {groups} groups; folds from {data.folds_path}")
    header = ["class", *(str(column) for column in table.columns)]
    console.say(
        console.table(
            [
                [name, *row]
                for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)
            ],
            header,
        )
    )
    leaked = leaked_images(folds)
    share = leaked / max(1, len(folds.table))
    console.say(
        f"An image-level split would have put {leaked} images ({share:.0%}) in another fold than "
        "an image of the same group. Here: 0."
    )


def conclude(run: RunDir) -> None:
    """Join the out-of-fold tables, write the report and the bundle, print the headline."""
    from kderm.ensemble.bundle import join_oof, write_bundle
    from kderm.evaluation.report import write_report

    predictions = join_oof(run)
    config = load_config(run.config)
    stopped = config.train.checkpoint == "last" and config.train.patience is not None
    with console.progress("resampling groups for the intervals") as report:
        metrics = write_report(
            predictions,
            run.path,
            title=f"Out-of-fold report of {run.name}",
            histories=read_histories(run, config),
            facts=run_facts(run, config),
            checkpoint="stopped" if stopped else config.train.checkpoint,
            monitor=config.train.monitor,
            progress=report,
        )
    rows = []
    for name in ("macro_auc", "balanced_accuracy", "macro_f1"):
        pooled, spread = metrics["pooled"][name], metrics["fold_mean"][name]
        interval = f"{number(pooled['low'])} to {number(pooled['high'])}"
        folds = f"{number(spread['mean'])} +- {number(spread['sd'])}"
        rows.append([name, number(pooled["value"]), interval, folds])
    console.say("\n" + console.table(rows, ["out-of-fold", "pooled", "95 % interval", "folds"]))
    console.say(f"\nReport: {run.report}")
    gone = [fold for fold in range(config.folds.k) if not run.fold(fold).model.exists()]
    if gone:
        console.warn(f"no ensemble is written: folds {gone} have no model.keras here")
    else:
        write_bundle(run)


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
    return facts | {
        "data set": config.data.dataset,
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


def is_demo(config: Config) -> bool:
    """Whether the images were drawn by a program."""
    return config.data.dataset == "demo"


def unseen_demo(config: Config) -> Path:
    """A second demo data set with another seed, with its labels, for trying prediction."""
    from kderm.data.datasets.demo import write_demo

    size = config.data.demo_size
    seed = config.seed + 1
    root = run_dir.demo_data_dir(f"unseen-{size}-seed{seed}")
    write_demo(root, 105, seed=seed, height=size)
    return root / "HAM10000_metadata.csv"
