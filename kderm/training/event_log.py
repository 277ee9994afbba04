"""TensorBoard event files of one fold, without TensorFlow: the history rows as scalars.

Keras' own callback imports TensorFlow on every backend. The folder is written anew when a fold goes
on after an interruption, so that no epoch is in it twice.
"""

import contextlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kderm.errors import missing_extra
from kderm.training.state import FoldState


def check_tensorboard() -> None:
    """Refuse `train.tensorboard` where the extra is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise missing_extra("tensorboard", "tensorboard", "train.tensorboard=true")


@contextlib.contextmanager
def event_log(wanted: bool, directory: Path, state: FoldState) -> Iterator[Callable[[dict], None]]:
    """Yield what is told each history row: an `EventLog`, or nobody if it is not wanted."""
    if not wanted:
        yield lambda row: None
        return
    log = EventLog(directory, state.history)
    try:
        yield log
    finally:
        log.close()


class EventLog:
    """Writes one scalar a history column and epoch into `directory`."""

    def __init__(self, directory: Path, history: Sequence[dict]) -> None:
        """Args:
        directory: fold_K/tensorboard; emptied first.
        history: the epochs before this one.
        """
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._writer = EventFileWriter(str(directory))
        for row in history:
            self(row)

    def __call__(self, row: dict) -> None:
        """Add the numbers of one history row."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=_tag(name), simple_value=value)
            for name, value in row.items()
            if isinstance(value, float)
        ]
        event = Event(step=row["epoch"], summary=Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._writer.close()


def _tag(column: str) -> str:
    """train/loss, held_out/macro_auc, average/macro_auc, ..."""
    for prefix, group in (("val_", "held_out"), ("ema_", "average")):
        if column.startswith(prefix):
            return f"{group}/{column.removeprefix(prefix)}"
    return f"train/{column}"
