"""The official files of a data set into a folder: the stage before any adapter reads it.

What is fetched is written down beside it (`NAME.fetched.json`), so that a repeated call goes on
where it broke off and checks what is there. Files put there by hand are taken too.
"""

import json
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kderm import console
from kderm.atomic import locked, write_json
from kderm.data.datasets.image_index import index_images
from kderm.data.official import OFFICIAL, OfficialDataset, OfficialFile
from kderm.download import DownloadError, download, file_digests, readable, require_room
from kderm.errors import UserError, unknown_name
from kderm.unpack import unpack

Progress = Callable[[int, int], None]  # (megabytes done, megabytes in all)

# An address that serves <it>/<data set>/<file name> in place of the publishers.
MIRROR = "KDERM_MIRROR"


@dataclass(frozen=True)
class _Record:
    """What a `.fetched.json` says.

    Attributes:
        url: where the file came from.
        licence: of the images.
        size: bytes of the file.
        sha256: hex, of the file.
        checked: the checksum it was compared with, "" if there was none.
        files: of an archive that was unpacked, how many files its folder got; else 0.
    """

    url: str
    licence: str
    size: int
    sha256: str
    checked: str
    files: int = 0


def fetch_dataset(name: str, into: Path, progress: Progress | None = None) -> Path:
    """Fetch, check and unpack the official files of the data set `name` into `into`.

    Goes on where an earlier call broke off. Archives that were fetched are deleted once they are
    unpacked. What is there already is checked and not fetched again.

    Args:
        name: a key of `OFFICIAL`.
        into: the folder that `data.root` will name.
        progress: called with (megabytes done, megabytes in all).

    Returns:
        `into`.

    Raises:
        UserError: unknown name, a data set for members only, no network, no room, or files that
            differ from those that were published or fetched.
    """
    if name not in OFFICIAL:
        raise unknown_name("official data set", name, OFFICIAL, do="Give one to --download.")
    dataset, into = OFFICIAL[name], Path(into)
    if dataset.by_hand:
        raise UserError(
            f"Expected a data set that can be fetched without an account. Received: {name}. "
            f"{dataset.by_hand} (from {dataset.page}). Put the files into {into}/ and set "
            f"data.dataset={name} data.root={into}."
        )
    if into.exists() and not into.is_dir():
        raise UserError(f"Expected a folder for {name}. Received: {into}, a file.")
    refusal = f"Another command is fetching into {into}. Wait for it."
    try:
        with locked(into, refusal):
            _fetch_missing(name, dataset, into, progress)
    except PermissionError as error:
        raise UserError(
            f"Expected a folder that can be written. Received: {into} ({error}). Choose another "
            "with --into."
        ) from None
    return into


def _fetch_missing(
    name: str, dataset: OfficialDataset, into: Path, progress: Progress | None
) -> None:
    missing = [file for file in dataset.files if not _is_there(file, into)]
    console.say(f"{dataset.title}, {dataset.licence}; terms: {dataset.page}")
    if missing:
        to_fetch = sum(file.size - _begun(file, into) for file in missing)
        # An archive goes when its files are out, so the largest one is what comes on top.
        on_top = max((file.size for file in missing if file.folder), default=0)
        console.say(f"{len(missing)} files, {readable(max(to_fetch, 0))}, into {into}/")
        try:
            require_room(into, to_fetch + on_top)
        except DownloadError as error:
            raise UserError(
                f"Expected room for {name} and its unpacked images. Received: {error}. Free some, "
                "or choose another folder with --into."
            ) from None
    meter = _Meter(progress, dataset.files)
    for file in dataset.files:
        if file in missing:
            _bring(name, dataset, file, missing, into, meter)
        meter.finish(file)


def _bring(
    name: str,
    dataset: OfficialDataset,
    file: OfficialFile,
    missing: list[OfficialFile],
    into: Path,
    meter: "_Meter",
) -> None:
    """Fetch one file, unless it was put there by hand, and unpack it if it is an archive."""
    path, record = into / file.name, _read_record(into, file)
    url = _address(name, file)
    ours = record is not None
    try:
        if not path.exists():
            found = download(
                url, path, checksum=file.checksum, progress=lambda *done: meter.show(file, *done)
            )
            record = _Record(url, dataset.licence, found.size, found.sha256, found.checked)
            write_json(_record_path(into, file), asdict(record))
            ours = True
            if not found.checked:
                console.say(
                    f"{file.name}: neither the publisher nor the server states a checksum; its "
                    f"sha256 is {found.sha256}"
                )
        elif record is None:
            record = _adopt(path, file, url, dataset)
        if file.folder:
            if not _has_files(into / file.folder):
                unpack(path, into / file.folder)
            files = _count_files(into / file.folder)
            write_json(_record_path(into, file), asdict(record) | {"files": files})
            if ours:
                path.unlink()
    except OSError as error:
        raise _no_file(name, file, missing, into, error) from None


def _adopt(path: Path, file: OfficialFile, url: str, dataset: OfficialDataset) -> _Record:
    """The record of a file that was put there by hand."""
    _require_official(path, file)
    sha256 = file_digests(path, {"sha256"})["sha256"]
    record = _Record(url, dataset.licence, path.stat().st_size, sha256, file.checksum)
    if not file.folder:
        write_json(_record_path(path.parent, file), asdict(record))
    return record


def _is_there(file: OfficialFile, into: Path) -> bool:
    """Whether nothing is left to do for `file`.

    Raises:
        UserError: it is there, but not as it was fetched or published.
    """
    record = _read_record(into, file)
    if not file.folder:
        return (into / file.name).exists() and _is_unchanged(into / file.name, file, record)
    folder = into / file.folder
    if not _has_files(folder):
        return False
    if record is not None and record.files:
        found, wanted = _count_files(folder), record.files
    elif record is None and file.images:
        found, wanted = len(index_images(folder).paths), file.images
    else:
        return record is None
    if found < wanted:
        raise UserError(
            f"Expected {wanted} files of {file.name} in {folder}. Received: {found}. Delete the "
            "folder to fetch it again, or bring the others back."
        )
    return True


def _is_unchanged(path: Path, file: OfficialFile, record: _Record | None) -> bool:
    if record is None:
        return False
    if file_digests(path, {"sha256"})["sha256"] == record.sha256:
        return True
    raise UserError(
        f"Expected {path} as it was fetched (sha256 {record.sha256}). Received: another file. "
        "Rename it to fetch the official one again; edited tables belong under another name."
    )


def _require_official(path: Path, file: OfficialFile) -> None:
    algorithm, _, expected = file.checksum.partition(":")
    found = file_digests(path, {algorithm})[algorithm] if algorithm else ""
    if found != expected:
        raise UserError(
            f"Expected the official {file.name} ({file.checksum}). Received: {path} "
            f"({algorithm}:{found}), which this program did not fetch. Rename it to fetch the "
            "official one, or use the folder as it is, without --download."
        )


def _address(name: str, file: OfficialFile) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{name}/{file.name}" if mirror else file.url


def _no_file(
    name: str, file: OfficialFile, missing: list[OfficialFile], into: Path, error: OSError
) -> UserError:
    """What failed, that nothing is lost, and the way without a network."""
    host = urllib.parse.urlsplit(_address(name, file)).hostname
    lines = [
        f"  {_address(name, other)}\n    -> {into / other.name}"
        for other in missing
        if other is file or not (into / other.name).exists()
    ]
    return UserError(
        f"Expected {file.name} of {name} from {host}. Received: {error}. What has arrived is kept: "
        "the same command goes on from there. Without a network, fetch by hand on another machine "
        f"(terms: {OFFICIAL[name].page}), put the files where the arrows point, and repeat the "
        "command, which checks and unpacks them:\n" + "\n".join(lines)
    )


def _record_path(into: Path, file: OfficialFile) -> Path:
    return into / f"{file.name}.fetched.json"


def _read_record(into: Path, file: OfficialFile) -> _Record | None:
    try:
        return _Record(**json.loads(_record_path(into, file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _begun(file: OfficialFile, into: Path) -> int:
    """Bytes of `file` that are on the disk already."""
    for path in (into / file.name, into / f"{file.name}.part"):
        if path.exists():
            return min(path.stat().st_size, file.size)
    return 0


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


class _Meter:
    """Progress over all files of a data set, in megabytes, by the sizes of the registry."""

    def __init__(self, progress: Progress | None, files: tuple[OfficialFile, ...]) -> None:
        self._progress = progress
        self._total = sum(file.size for file in files)
        self._finished = 0

    def show(self, file: OfficialFile, done: int, total: int) -> None:
        """`done` of `total` bytes of `file` are here."""
        self._tell(self._finished + file.size * done // max(total, 1))

    def finish(self, file: OfficialFile) -> None:
        """`file` is here whole."""
        self._finished += file.size
        self._tell(self._finished)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            in_all = max(1, self._total // 10**6)
            self._progress(in_all * done // max(self._total, 1), in_all)
