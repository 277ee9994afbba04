"""Runs at a URL have a working copy on this machine; what changes on either side is copied over.

Everything else reads and writes the working copy as any folder of runs. Before a verb begins, what
the URL has and the copy lacks is brought (`pull`); what is finished is copied to the URL at once
(`push`). Epochs of folds that are being trained take another way: `kderm.training.attempts`.

```
<cache>/runs/<name of the URL>-<digest>/
  .origin                the URL
  .locks/<run>/          while a command copies files of the run, which one does at a time
  <run>/.mirror.json     for each file that both sides have what it was when they were the same
```

What the index of a killed command lacks is copied again, and no more than that.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

from kderm.atomic import locked, write_json, write_text
from kderm.errors import UserError
from kderm.storage.cache import cache_dir
from kderm.storage.places import Kept, Place, is_temporary, open_place

ATTEMPTS = "attempts"
_ORIGIN = ".origin"
_INDEX = ".mirror.json"
_LOCKS = ".locks"
_OF_RUNS = ("config.yaml", "ensemble.json", "manifest.csv")  # one of them is in every run
_SAVED_EVERY = 5.0  # seconds between two writes of the index while files are copied
# What says that other files are whole goes after them.
_LAST = ("predictions.csv", "engine.json", "done.json", "ensemble.json")
_STATE = re.compile(r"(state|weights_\w+)\.npz")
_OF_ATTEMPTS = re.compile(rf"(fold_\d+/{ATTEMPTS})/.+", re.DOTALL)


def working_copy(url: str) -> Path:
    """The folder on this machine for the runs at `url`; made if absent."""
    url = url.rstrip("/")
    slug = re.sub(r"[^\w.-]+", "_", url.partition("://")[2]).strip("_")[-40:]
    folder = cache_dir() / "runs" / f"{slug}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    if not (folder / _ORIGIN).is_file():
        write_text(folder / _ORIGIN, url)
    return folder


def origin_url(path: Path) -> str | None:
    """The URL of the runs that the folder `path` lies in a working copy of; None for any other."""
    root = _root(path)
    return None if root is None else (root / _ORIGIN).read_text(encoding="utf-8").strip()


def kept_at(path: Path) -> str | None:
    """The URL of a file or folder in a working copy; None elsewhere."""
    root = _root(path)
    if root is None:
        return None
    return f"{origin_url(root)}/{path.absolute().relative_to(root).as_posix()}"


def origin_of(run: Path) -> Place:
    """Where the run in the folder `run` is kept among others: at its URL, else where it lies."""
    url = origin_url(run)
    return open_place(run.absolute().parent if url is None else url)


def bring(root: Path, name: object | None) -> object | None:
    """Pull the run `name` into the working copy `root`; with None the newest with an ensemble.

    A name under which no run is kept, neither there nor here, brings nothing.

    Returns:
        The name; of None the newest's, where `root` is a working copy and there is one.

    Raises:
        UserError: a name that is no run's, such as "".
    """
    if _root(root) != root.absolute():
        return name
    if name is None:
        bundles = open_place(origin_url(root)).matching("*/ensemble.json")
        if not bundles:
            return None
        name = bundles[-1].name.partition("/")[0]
    elif str(name) in ("", ".", "..") or str(name).startswith("_"):
        raise UserError(
            f"Expected the name of a run at {origin_url(root)}. Received: {str(name)!r}."
        )
    elif Path(str(name)).name != str(name):
        return name
    own = root / str(name)
    if own.is_dir() or holds_run(open_place(origin_url(root)), f"{name}/"):
        pull(own)
    return name


def holds_run(place: Place, below: str = "") -> bool:
    """Whether a run, or an ensemble alone, is kept in the folder `below`, "" or "<name>/"."""
    return any(place.find(below + file) is not None for file in _OF_RUNS)


def pull(run: Path) -> None:
    """Bring what the URL has of a run and its working copy has not; nothing for other folders.

    Raises:
        UserError: the URL had files of the run and has none: a disk that is not mounted looks the
            same as a run that was removed, so nothing is removed here.
    """
    root = _root(run)
    if root is None:
        return
    name = run.absolute().relative_to(root).as_posix()
    with _alone(root, name):
        _pull(run, origin_of(run), name)


def _pull(run: Path, place: Place, name: str) -> None:
    there = {}
    for kept in place.files(name):
        own = kept.name[len(name) + 1 :]
        if attempts := _OF_ATTEMPTS.fullmatch(own):
            (run / attempts[1]).mkdir(parents=True, exist_ok=True)
        elif _is_shared(own):
            there[own] = kept
    with _index_of(run) as index:
        if index and not there:
            raise UserError(
                f"Expected the run {run.name!r} at {place.url}, where it was before. Received: no "
                "file of it. Make the place reachable again (is its disk mounted?). If the run was "
                f"removed on purpose, remove the copy of it on this machine as well: {run}"
            )
        for own in sorted(there, key=_late):
            known = own in index and index[own][2] == there[own].version
            if known and (run / own).exists():
                continue
            with contextlib.suppress(FileNotFoundError):  # it was replaced meanwhile
                place.download(there[own].name, run / own)
                index[own] = [*_stat(run / own), there[own].version]
        for own in set(index) - set(there):
            path = run / own
            if path.is_file() and _stat(path) == index[own][:2]:
                path.unlink()
            del index[own]


def is_others(file: Path) -> bool:
    """Whether a run's URL holds, under this file's name, what another machine has put there."""
    root = _root(file)
    if root is None:
        return False
    name = file.absolute().relative_to(root).as_posix()
    run, _, own = name.partition("/")
    with _alone(root, run):
        kept, index = origin_of(root / run).find(name), _read_index(root / run)
    return kept is not None and (own not in index or index[own][2] != kept.version)


def push(path: Path) -> None:
    """Copy what has changed in and below `path`, in a run's working copy, to its URL."""
    root = _root(path)
    if root is None:
        return
    path = path.absolute()
    run = root / path.relative_to(root).parts[0]
    with _alone(root, run.name):
        _push(run, path, origin_of(run))


def _push(run: Path, path: Path, place: Place) -> None:
    files = sorted(each for each in path.rglob("*") if each.is_file())
    names = [file.relative_to(run).as_posix() for file in files]
    names = [own for own in names if _is_shared(own)]
    with _index_of(run) as index:
        for own in sorted(names, key=_late):
            now = _stat(run / own)
            if own not in index or index[own][:2] != now:
                place.upload(run / own, f"{run.name}/{own}")
                index[own] = [*now, _version(place.find(f"{run.name}/{own}"))]
        below = "" if path == run else f"{path.relative_to(run).as_posix()}/"
        for own in [own for own in index if own.startswith(below) and own not in names]:
            if _version(place.find(f"{run.name}/{own}")) == index[own][2]:  # else it is another's
                place.remove(f"{run.name}/{own}")
            del index[own]


@contextlib.contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Wait until no other command copies files of the run `name`, and keep others waiting."""
    words = f"Another command is copying the run {name!r}."
    with locked(root / _LOCKS / name, words, "copying", patient=True):
        yield


def _root(path: Path) -> Path | None:
    path = path.absolute()
    return next((each for each in (path, *path.parents) if (each / _ORIGIN).is_file()), None)


def _is_shared(own: str) -> bool:
    """Whether a file of this name is copied: not what only an unfinished command needs."""
    parts = own.split("/")
    if (
        is_temporary(own)
        or parts[-1] in (_INDEX, _ORIGIN)
        or ".parts" in parts
        or _OF_ATTEMPTS.fullmatch(own)
    ):
        return False
    return _STATE.fullmatch(parts[-1]) is None


def _late(own: str) -> tuple[int, str]:
    file = own.rpartition("/")[2]
    return (_LAST.index(file) + 1 if file in _LAST else 0), own


def _stat(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _version(kept: Kept | None) -> str:
    return "" if kept is None else kept.version


class _Index(dict):
    """Name -> [size, time of the file here, version at the URL]; written now and then."""

    def __init__(self, run: Path) -> None:
        super().__init__(_read_index(run))
        self._file, self._saved, self._saved_at = run / _INDEX, dict(self), time.monotonic()

    def __setitem__(self, own: str, entry: list) -> None:
        super().__setitem__(own, entry)
        if time.monotonic() > self._saved_at + _SAVED_EVERY:
            self.save()

    def save(self) -> None:
        """Write what is new."""
        if self != self._saved:
            write_json(self._file, self)
            self._saved, self._saved_at = dict(self), time.monotonic()


@contextlib.contextmanager
def _index_of(run: Path) -> Iterator[_Index]:
    """The index of a run's copy; what has been copied is noted also where the block breaks off."""
    index = _Index(run)
    try:
        yield index
    finally:
        index.save()


def _read_index(run: Path) -> dict[str, list]:
    try:
        return json.loads((run / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
