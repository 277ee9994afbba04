"""One attempt at one fold, as a Ray task: somewhere in a cluster, in a scratch folder of its own.

`kderm.training.launchers.cluster_folds` starts it. It brings the newest state of the fold, trains
on, keeps the state after each epoch where the run's files are, and in the end the whole fold. What
it says goes to a listener. Whatever kills it, the next attempt goes on from its last epoch.
"""

import contextlib
import io
import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kderm
from kderm import console
from kderm.atomic import write_text
from kderm.config.reading import load_config
from kderm.errors import UserError, reason_of
from kderm.leftovers import temporary_beside
from kderm.run_dir import RunDir
from kderm.runtime import check_backend, keep_freed_memory
from kderm.storage.pixels import pixels_here
from kderm.storage.places import open_place
from kderm.training.attempts import Attempt
from kderm.training.launchers.handover import take_over

Tell = Callable[..., None]


@dataclass(frozen=True)
class FoldTask:
    """What an attempt is told.

    Attributes:
        run: the run's name.
        place: where the runs are kept, a URL.
        fold: the held-out fold.
        attempt: the name of this attempt.
        config: the run's config, YAML.
        teacher: the run's table of a teacher's answers, or None.
        folder: the working folder of the process that started it: paths in the config start there.
        kderm: its version.
    """

    run: str
    place: str
    fold: int
    attempt: str
    config: str
    teacher: str | None
    folder: str
    kderm: str


def train_attempt(task: FoldTask, handed: bytes, listener: object) -> str | None:
    """Train the fold from its last whole epoch to the end.

    Args:
        task: what to do.
        handed: what `hand_over` wrote.
        listener: the actor that is told (attempt, kind, ...).

    Returns:
        Why it failed, or None.
    """

    def tell(*event: object) -> None:
        listener.tell.remote(task.attempt, *event)

    console.forward_to(tell)
    tell("begun", f"{socket.gethostname()}, process {os.getpid()}")
    try:
        # What killed ones left on this machine is swept by the name.
        with temporary_beside(Path(tempfile.gettempdir()) / "kderm-fold") as folder:
            _train(task, handed, RunDir(folder / task.run), tell)
    except UserError as error:
        return str(error)
    except Exception as error:
        tell("log", traceback.format_exc())
        return reason_of(error)
    return None


def _train(task: FoldTask, handed: bytes, run: RunDir, tell: Tell) -> None:
    if task.kderm != kderm.__version__:
        raise UserError(
            f"Expected kderm {task.kderm} on every node, as where the command was given. Received: "
            f"{kderm.__version__} on {socket.gethostname()}. Install the same version there."
        )
    with contextlib.suppress(OSError):  # another machine need not have the folder
        os.chdir(task.folder)
    place, fold = open_place(task.place), run.fold(task.fold)
    data = take_over(io.BytesIO(handed), lambda path: pixels_here(path, place))
    check_backend()
    from kderm.training.fold import train_fold

    keep_freed_memory()
    write_text(run.config, task.config)
    if task.teacher is not None:
        write_text(run.teacher, task.teacher)
    fold.path.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(place, f"{task.run}/{fold.path.name}", task.attempt, fold)
    attempt.begin()

    def keep(epoch: int) -> None:
        attempt.keep(epoch)
        tell("kept", epoch)

    train_fold(load_config(run.config), data, run, task.fold, after_epoch=keep)
    attempt.finish()
