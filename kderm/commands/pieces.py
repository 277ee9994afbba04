"""What several verbs share: the run that is meant, its lock, and the words for the user."""

import contextlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.atomic import locked
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.run_dir import RunDir, open_run, runs_root

SYNTHETIC = "SYNTHETIC DATA: drawn by a program, not photographs. Its numbers say nothing medical."


def named_run(config_path: str | None, run_name: str | None) -> RunDir:
    """The folder of the run: by its name, else by the config file's name, else "demo"."""
    name = run_name or (Path(config_path).stem if config_path else "demo")
    if name.startswith(("_", ".")) or "/" in name or os.sep in name:
        raise UserError(
            "A run's name is one folder name that begins with a letter or a digit. "
            f"Received: {name!r}. Choose another with --run NAME."
        )
    return RunDir(runs_root() / name)


def known_run(name: str | None) -> RunDir:
    """The finished run called `name`; without a name the newest, which is said."""
    run = open_run(name)
    if name is None:
        console.say(f"run {run.name} (the newest; --run NAME or RUN for another)")
    return run


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


def is_demo(config: Config) -> bool:
    """Whether the images were drawn by a program."""
    return config.data.is_demo


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


def read_json(path: Path) -> dict:
    """A JSON file that a run must have."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected a JSON file of a finished run at {path}. Received: {error}. Copy the whole "
            "folder of the run (only model.keras may be left out), or train the fold anew."
        ) from None
