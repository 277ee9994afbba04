"""What several verbs share: a run's lock and files, and the words about its data."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kderm import console
from kderm.atomic import locked
from kderm.config.schema import Config
from kderm.counting import counted
from kderm.run_dir import RunDir, open_run
from kderm.storage import mirror

# Verbs that write into a run that is there, and so cannot choose another name for it.
OF_A_RUN = ("evaluate", "select")


def known_run(name: str | None) -> RunDir:
    """The finished run called `name`; without a name the newest, which is said."""
    run = open_run(name)
    if name is None:
        console.say(f"run {run.name} (the newest; name another if it is not the one meant)")
    return run


@contextlib.contextmanager
def exclusive(run: RunDir, verb: str, *, patient: bool = False) -> Iterator[None]:
    """Hold the run's lock for the command `verb`; `patient`: wait for others of this verb.

    What was written goes to the run's URL, where it has one.
    """
    other = "" if verb in OF_A_RUN else ", or choose another name with --run NAME"
    refusal = f"Another command is writing the run {run.name!r}. Wait for it{other}."
    with locked(run.path, refusal, verb, patient=patient):
        yield
        say_kept(run.path)


def say_kept(folder: Path) -> None:
    """Copy what is new in a run's folder to the URL where the run lives, if it does; say so."""
    mirror.push(folder)
    if url := mirror.kept_at(folder):
        console.say(f"Kept at: {url}")


def is_demo(config: Config) -> bool:
    """Whether the images were drawn by a program."""
    return config.data.is_demo


def describe(data) -> None:
    """Print what is in the data set, the class table per fold, and the leakage it avoids."""
    from kderm.api.datasets import UNGROUPED, dropped_words
    from kderm.data.folds import class_table

    folds = data.folds
    table = class_table(folds)
    groups = folds.table["group_id"].nunique()
    if folds.absent:
        console.warn(f"{folds.absent} images of {data.folds_path} are not in this data set")
    for warning in [*dropped_words(data.manifest.dropped), *data.notes]:
        console.warn(warning)
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
    avoided = leakage(data.manifest.table, folds)
    if avoided is None:
        console.warn(UNGROUPED)
    else:
        console.say(avoided)


def leakage(table, folds) -> str | None:
    """What the groups spare the user; None where there is nothing to make groups of."""
    from kderm.api.datasets import is_ungrouped
    from kderm.data.folds import leaked_images

    if is_ungrouped(table, folds):
        return None
    ids = table[["lesion_id", "patient_id"]].notna().any(axis=1)
    leaked = leaked_images(folds)
    told = (
        f"An image-level split would have put {leaked} images ({leaked / len(table):.0%}) in "
        "another fold than an image of the same group. Here: 0."
    )
    unknown = int((~ids).sum())
    if unknown:
        told += (
            f" For {counted(unknown, 'image')} without lesion and patient id that cannot be told."
        )
    return told
