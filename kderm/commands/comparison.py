"""`compare`: runs, or tables of predictions, against the first of them on the same images."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kderm import console
from kderm.api.conclusion import SYNTHETIC
from kderm.commands.asked import refuse_smaller
from kderm.config.schema import DataConfig
from kderm.counting import counted
from kderm.errors import UserError
from kderm.labels import LABEL_SPACES, UNCORRECTED, LabelSpace, label_space
from kderm.run_dir import RunDir, comparison_dir, open_run

if TYPE_CHECKING:
    import pandas as pd

    from kderm.evaluation.predictions import Predictions

PREDICTIONS = "predictions.csv"
# A table of a run lies in its folder or two below (predictions/<name>/predictions.csv).
LEVELS_UP = 3
CORRECTED = (
    "Its answers are corrected to a stated prevalence (ensemble-predict --prevalence), which moves "
    "first choices, log-loss and Brier score; they are compared as they are in the table."
)
LONGEST_NAME = 100


def compare(names: Sequence[str], out: str | None, resamples: int) -> None:
    """Hold each of `names` (runs, or predictions tables) against the first one."""
    from kderm.evaluation.comparison.compare import compare_runs
    from kderm.evaluation.comparison.join import join_runs
    from kderm.evaluation.comparison.page import terminal_table, verdict
    from kderm.evaluation.comparison.write import write_comparison

    tables, notes = read_all(names)
    joined = join_runs(tables, notes)
    for note in joined.notes:
        console.warn(note)
    with console.progress("resampling groups for the intervals") as report:
        found = compare_runs(joined, resamples=resamples, progress=report)
    page = write_comparison(found, joined, Path(out) if out else default_folder(list(tables)))
    console.say(f"\n{found['n_images']:,} images in {found['n_groups']:,} groups, answered by all")
    console.say("\n" + terminal_table(found) + "\n")
    if len(found["comparisons"]) == 1:
        console.say(verdict(found, found["comparisons"][0]))
    console.say(f"\nComparison: {page}")


def read_all(names: Sequence[str]) -> tuple[dict[str, "Predictions"], list[str]]:
    """Name to predictions in the order given, and what must be said of them.

    Raises:
        UserError: fewer than two, one named twice, or one that has nothing to compare.
    """
    if len(names) < 2:
        raise UserError(
            "compare needs two runs or more: the first is what the others are held against. "
            f"Received: {' '.join(names) or 'none'}. For example: compare baseline other"
        )
    tables, notes, places = {}, {}, {}
    for given in names:
        place = find(given)
        if place.resolve() in places:
            raise UserError(
                "compare needs runs that differ. Received the same one as "
                f"{places[place.resolve()]!r} and {given!r}."
            )
        places[place.resolve()] = given
        predictions, known = read_csv(place) if place.is_file() else read_run(RunDir(place))
        name, number = plain_name(place), 2
        while name in tables:
            name, number = f"{plain_name(place)}_{number}", number + 1
        if name != plain_name(place):
            known = [*known, f"This is the one given as {given}."]
        tables[name] = predictions
        for note in known:
            notes.setdefault(note, []).append(name)
    return tables, [f"{some(owners)}: {note}" for note, owners in notes.items()]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def find(given: str) -> Path:
    """The table or the folder of a run that `given` names."""
    path = Path(given)
    if path.is_file():
        return path
    if (path / PREDICTIONS).is_file() and not RunDir(path).config.is_file():
        return path / PREDICTIONS
    run = open_run(given)
    refuse_smaller(run)
    return run.path


def plain_name(place: Path) -> str:
    """How a run or table is called: its folder's name, unless the file has one of its own."""
    if place.is_dir() or place.name in (PREDICTIONS, "oof.csv"):
        return (place if place.is_dir() else place.parent).resolve().name
    return place.stem


def read_run(run: RunDir) -> tuple["Predictions", list[str]]:
    """A run's out-of-fold answers, of the folds that are finished; and what must be said of them.

    Raises:
        UserError: no fold is finished, or a table is not one.
    """
    from kderm.evaluation.predictions import join_predictions, read_predictions

    data, k = data_of(run)
    labels = label_space(data.labels, data.classes, data.malignant)
    notes = [SYNTHETIC] if data.is_demo else []
    folds = [run.fold(fold) for fold in range(k)]
    finished = [fold for fold in folds if fold.is_done and fold.oof.is_file()]
    if not finished and run.oof.is_file():
        return read_predictions(run.oof, labels), notes
    if not finished:
        raise UserError(
            f"Expected at least one finished fold of {run.name}, or its {run.oof.name}. Received: "
            f"{run.path} with neither. Train it first: {run.command('cv')}"
        )
    if len(finished) < len(folds):
        notes.append(f"{len(finished)} of {len(folds)} folds are finished; only these count.")
    return join_predictions([read_predictions(fold.oof, labels) for fold in finished]), notes


def data_of(run: RunDir) -> tuple[DataConfig, int]:
    """What a run's config says of its classes and its number of folds.

    The rest is not looked at: runs of older versions, with options that are gone, compare as well.

    Raises:
        UserError: there is no such config.
    """
    import yaml

    try:
        values = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        known = {k: v for k, v in values["data"].items() if k in DataConfig.model_fields}
        return DataConfig.model_validate(known), int(values["folds"]["k"])
    except OSError as error:
        raise UserError(
            f"Expected the folder of a run, with its {run.config.name}, which says the classes and "
            f"folds. Received: {run.path} ({run.config.name}: {error.strerror}). Name another run, "
            "or the path of a predictions table."
        ) from None
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"Expected a run with its config, which says the classes and folds. Received: "
            f"{run.config} ({error}). Name another run, or the path of a predictions table."
        ) from None


def read_csv(path: Path) -> tuple["Predictions", list[str]]:
    """The labelled rows of a table of predictions, and what must be said of them.

    Raises:
        UserError: it is no table of predictions, or no row of it has a label and an answer.
    """
    import numpy as np
    import pandas as pd

    from kderm.data.folds import group_ids
    from kderm.evaluation.predictions import make_predictions

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a table of predictions (CSV). Received: {path} ({error})."
        ) from None
    labels = label_space_of(table, path)
    if "label" not in table:
        raise UserError(
            f"{path} does not say what the images show, so nothing can be compared. Expected a "
            "column label; ensemble-predict writes one for class folders and for a CSV with labels."
        )
    usable = (table["label"] != "") & (table[labels.columns] != "").all(axis=1)
    if not usable.any():
        raise UserError(
            f"Expected images with a label and an answer. Received: {path} with none among "
            f"{counted(len(table), 'row')}."
        )
    kept = table[usable].reset_index(drop=True)
    for column in [name for name in ("group_id", "fold") if name in kept]:
        kept[column] = kept[column].astype(object).where(kept[column] != "", np.nan)
    if "group_id" not in kept:
        ids = ["image_id", "lesion_id", "patient_id"]
        kept["group_id"] = group_ids(kept.reindex(columns=ids, fill_value=""))
    left_out = len(table) - len(kept)
    told = f"{counted(left_out, 'image')} without a label or an answer left out."
    notes = [told] * bool(left_out)
    notes += [CORRECTED] * (f"p_{UNCORRECTED}" in table)
    try:
        return make_predictions(kept, labels), notes
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def label_space_of(table: "pd.DataFrame", path: Path) -> LabelSpace:
    """The label space of a table: of the run it lies in, else by its probability columns.

    Raises:
        UserError: it has no probability columns of at least two classes.
    """
    from kderm.evaluation.predictions import class_columns

    for folder in list(path.resolve().parents)[:LEVELS_UP]:
        if RunDir(folder).config.is_file():
            data, _ = data_of(RunDir(folder))
            own = label_space(data.labels, data.classes, data.malignant)
            if set(own.columns) <= set(table.columns):
                return own
    columns = class_columns(table)
    for space in LABEL_SPACES.values():
        if set(space.columns) <= set(table.columns) and set(columns) <= set(space.columns):
            return space
    if len(columns) < 2:
        raise UserError(
            f"Expected a table with a probability column p_<code> for each class. Received: {path} "
            f"with the columns {', '.join(map(str, table.columns))}."
        )
    return label_space("custom", [name.removeprefix("p_") for name in columns])


def default_folder(names: list[str]) -> Path:
    """`runs/_comparisons/<a>_vs_<b>`; with many names a short one that no others give."""
    name = "_vs_".join(re.sub(r"[^\w.+-]", "_", part) for part in names)
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST_NAME // 2]}_{len(names)}_runs_{digest}"
    return comparison_dir(name)
