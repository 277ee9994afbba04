"""Attempts to train a fold that several machines may make: each keeps its files apart.

A fold that is trained on another machine, or whose run lives at a URL, is kept like this:

```
fold_<k>/attempts/<attempt>/
  00003/state.npz ...     the fold's files after its third epoch (those that did not change stay
  00003.json              where they were), and their digests; written when they are all there
  final/model.keras ...   the finished fold
  final.json              the same of it
```

No name is written twice and no attempt touches another's, so an attempt that was given up and goes
on all the same (a machine that was cut off) spoils nothing: every record stands for one whole state
of the fold. Whoever continues takes the record of most epochs. Where the fold lies in the end is
written by the one process that started the attempts.
"""

import contextlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kderm import console
from kderm.leftovers import temporary_beside
from kderm.run_dir import FoldDir, RunDir
from kderm.storage.mirror import ATTEMPTS, is_others, origin_of, origin_url, pull, push
from kderm.storage.places import Place, file_sha256, is_inside, is_temporary

_FINAL = "final"
_LEFT_BY_A_RACE = 3  # times to look again when files go while they are read


@dataclass(frozen=True)
class Record:
    """What an attempt had after an epoch, or in the end.

    Attributes:
        attempt: its name.
        epoch: epochs finished; of a finished fold more than any other's.
        files: name in the fold's folder -> (name at the place, SHA-256).
    """

    attempt: str
    epoch: float
    files: dict[str, tuple[str, str]]

    @property
    def is_final(self) -> bool:
        """Whether the fold is finished."""
        return self.epoch == float("inf")


class Attempt:
    """One attempt: brings the newest state here, and keeps each new one at the place."""

    def __init__(self, place: Place, fold_name: str, name: str, folder: FoldDir) -> None:
        """Args:
        place: where the runs are kept.
        fold_name: the fold's folder under it, <run>/fold_<k>.
        name: of the attempt, never used before.
        folder: where the fold is trained on this machine.
        """
        self._place, self._fold_name, self.name, self._folder = place, fold_name, name, folder
        self._sent: dict[str, tuple[tuple[int, int], str, str]] = {}
        self._records: list[Record] = []

    def begin(self) -> None:
        """Bring the newest whole state of any attempt here, unless the folder has a newer one."""
        own = epochs_in(self._folder)
        bring_newest(self._place, self._fold_name, self._folder, above=own)

    def keep(self, epoch: int) -> None:
        """Keep the folder as it is after `epoch`, and let go of what is older than the last two."""
        record = self._send(f"{epoch:05d}", float(epoch), self._files(states=True))
        self._records.append(record)
        while len(self._records) > 2:
            self._forget(self._records.pop(0))

    def finish(self) -> None:
        """Keep the finished fold; `done.json` goes last."""
        self._send(_FINAL, float("inf"), self._files(states=False))

    def _send(self, label: str, epoch: float, paths: list[Path]) -> Record:
        top = f"{self._fold_name}/{ATTEMPTS}/{self.name}"
        files = {}
        for path in paths:
            name = path.relative_to(self._folder.path).as_posix()
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
            before = self._sent.get(name)
            if before is None or before[0] != state:
                kept, digest = f"{top}/{label}/{name}", file_sha256(path)
                self._place.upload(path, kept)
                self._sent[name] = before = (state, kept, digest)
            files[name] = before[1:]
        record = Record(self.name, epoch, files)
        told = {"epoch": None if record.is_final else epoch, "files": files}
        self._place.write(f"{top}/{label}.json", json.dumps(told).encode())
        return record

    def _files(self, *, states: bool) -> list[Path]:
        fold = self._folder
        found = []
        for path in sorted(fold.path.rglob("*")):
            state = path == fold.state or path.match("weights_*.npz")
            own = path.relative_to(fold.path).as_posix()
            # The log is of the machine that writes it, and would come back over the living one.
            if path == fold.log or is_temporary(own) or own.startswith(f"{ATTEMPTS}/"):
                continue
            if path.is_file():
                found += [path] if states or not state else []
        return sorted(found, key=lambda path: path == fold.done)

    def _forget(self, old: Record) -> None:
        """Remove what only `old` needs, the record first."""
        used = {kept for record in self._records for kept, _ in record.files.values()}
        top = f"{self._fold_name}/{ATTEMPTS}/{self.name}"
        self._place.remove(f"{top}/{int(old.epoch):05d}.json")
        for kept, _ in old.files.values():
            if kept not in used:
                self._place.remove(kept)


@contextlib.contextmanager
def kept(run: RunDir, fold: int) -> Iterator[Callable[[int], None]]:
    """Train a fold on this machine inside; yields what hears of each epoch that is finished.

    What an attempt elsewhere had reached is brought first. Where the run lives at a URL, each epoch
    and in the end the fold are kept there.
    """
    place, folder = origin_of(run.path), run.fold(fold)
    name = f"{run.name}/{folder.path.name}"
    if folder.attempts.is_dir() and not folder.is_done:
        bring_newest(place, name, folder, above=epochs_in(folder))
    if origin_url(run.path) is not None and not folder.is_done:
        folder.path.mkdir(parents=True, exist_ok=True)
        yield Attempt(place, name, new_name(0), folder).keep
    else:
        yield lambda epoch: None
    settle(place, run, fold)


def offer(place: Place, run: RunDir, fold: int) -> None:
    """Keep what this machine has of a fold as an attempt, if no attempt has come as far."""
    folder, name = run.fold(fold), f"{run.name}/{run.fold(fold).path.name}"
    own = epochs_in(folder)
    if own > max((record.epoch for record in records(place, name)), default=0.0):
        Attempt(place, name, new_name(0), folder).keep(int(own))


def settle(place: Place, run: RunDir, fold: int) -> None:
    """Copy a finished fold to where the run is kept, and forget the attempts at it.

    What another machine has finished before stays, and is brought here.
    """
    folder = run.fold(fold)
    if not folder.is_done:
        return
    folder.sweep()
    if is_others(folder.done):
        console.warn(f"another machine has finished fold {fold} before; its files are taken")
        pull(run.path)
    else:
        push(folder.path)
    if folder.attempts.is_dir() or origin_url(run.path) is not None:
        forget_attempts(place, f"{run.name}/{folder.path.name}")
        shutil.rmtree(folder.attempts, ignore_errors=True)


def new_name(number: int) -> str:
    """A name for the attempt `number`, used by nobody else."""
    return f"{number:03d}-{uuid.uuid4().hex[:8]}"


def records(place: Place, fold_name: str) -> list[Record]:
    """All records of a fold that can be read, the best one first."""
    found = []
    for kept in place.files(f"{fold_name}/{ATTEMPTS}"):
        attempt, *rest = kept.name.removeprefix(f"{fold_name}/{ATTEMPTS}/").split("/")
        if len(rest) != 1 or not rest[0].endswith(".json"):
            continue
        with contextlib.suppress(
            *(ValueError, LookupError, TypeError, AttributeError, FileNotFoundError)
        ):
            told = json.loads(place.read(kept.name))
            epoch = float("inf") if told["epoch"] is None else float(told["epoch"])
            files = {name: (where, digest) for name, (where, digest) in told["files"].items()}
            if all(_is_own(fold_name, name, where) for name, (where, _) in files.items()):
                found.append(Record(attempt, epoch, files))
    return sorted(found, key=lambda record: (record.epoch, record.attempt), reverse=True)


def _is_own(fold_name: str, name: str, where: str) -> bool:
    """Whether what a record names is a file of an attempt at the fold, for a file of the fold."""
    return is_inside(name) and is_inside(where) and where.startswith(f"{fold_name}/{ATTEMPTS}/")


def bring_newest(
    place: Place, fold_name: str, fold: FoldDir, *, above: float = 0.0
) -> Record | None:
    """Bring the best whole record with more than `above` epochs into a fold's folder.

    Returns:
        The record, or None where there is none: the folder is as it was.
    """
    for _ in range(_LEFT_BY_A_RACE):
        found = records(place, fold_name)
        for record in found:
            if record.epoch <= above:
                return None
            if _bring(place, record, fold):
                return record
        if not found:
            return None
    return None


def _bring(place: Place, record: Record, fold: FoldDir) -> bool:
    """Copy a record's files into the folder; False where one is gone or damaged."""
    with temporary_beside(fold.path / "brought") as beside:
        for name, (kept, digest) in record.files.items():
            try:
                place.download(kept, beside / name)
            except FileNotFoundError:
                return False
            if file_sha256(beside / name) != digest:
                console.warn(f"{place.url}/{kept} is damaged; an earlier state is taken")
                return False
        order = [*record.files]
        # What says that the rest is there comes last: the state, or that the fold is done.
        order.sort(key=lambda name: name in (fold.state.name, fold.done.name))
        for name in order:
            (fold.path / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(beside / name, fold.path / name)
        return True


def forget_attempts(place: Place, fold_name: str, attempts: list[str] | None = None) -> None:
    """Remove the files of some attempts, or of all."""
    top = f"{fold_name}/{ATTEMPTS}"
    for name in [top] if attempts is None else [f"{top}/{attempt}" for attempt in attempts]:
        place.remove(name)


def epochs_in(fold: FoldDir) -> float:
    """Epochs of the state in a folder; 0 without one that can be read."""
    import numpy as np

    try:
        with np.load(fold.state) as arrays:
            return float(json.loads(str(arrays["state"]))["epoch"])
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return 0.0
