"""From uploaded files to pictures in memory: bytes with a name, or the sentence that refuses them.

Nothing is unpacked to a disk: the members of a zip are read one by one, bounded in number, in bytes
each and in bytes together, whatever the zip's directory claims. Names are for showing only and
never become paths.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kderm.app.limits import Limits, Refused, check_picture, too_many_bytes
from kderm.data.images import IMAGE_SUFFIXES

_PIECE = 1 << 20


@dataclass(frozen=True)
class Upload:
    """One picture as it came.

    Attributes:
        name: what the reader knows it by.
        data: the file's bytes; empty where it is refused.
        problem: why it is refused, a sentence; "" where it is not.
    """

    name: str
    data: bytes
    problem: str = ""


@dataclass(frozen=True)
class Uploads:
    """The pictures of one request, and what was passed over, a sentence each."""

    pictures: tuple[Upload, ...]
    notes: tuple[str, ...] = ()


def read_uploads(paths: Sequence[str | Path], limits: Limits, most: int) -> Uploads:
    """The pictures in the files at `paths`, zips opened.

    Args:
        paths: files where the server put what was sent.
        limits: what is taken.
        most: pictures that are taken together.

    Raises:
        Refused: there is no picture, there are too many, or a zip cannot be taken.
    """
    pictures: list[Upload] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if _is_zip(path):
            found, passed_over = _of_zip(path, limits, most)
            pictures += found
            notes += passed_over
        elif len(paths) > 1 and not _may_be_picture(path.name):
            notes.append(f"The file {path.name} is no picture and was passed over.")
        else:
            pictures.append(_of_file(path, limits))
    if len(pictures) > most:
        raise Refused(too_many(len(pictures), most))
    if not pictures:
        raise Refused("There is no picture in what was sent. Send JPEG or PNG files.")
    return Uploads(tuple(pictures), tuple(notes))


def too_many(count: int, most: int) -> str:
    """What to say of `count` pictures where `most` are taken."""
    return (
        f"These are {count} pictures, and at most {most} are answered together. Send fewer at a "
        "time, or use the command ensemble-predict, which takes any number."
    )


def _of_file(path: Path, limits: Limits) -> Upload:
    try:
        size = path.stat().st_size
        if size > limits.file_bytes:
            return Upload(path.name, b"", too_many_bytes(size, limits))
        return _checked(path.name, path.read_bytes(), limits)
    except OSError:
        return Upload(path.name, b"", "The file is no longer on the server. Send it again.")


def _checked(name: str, data: bytes, limits: Limits) -> Upload:
    try:
        check_picture(data, limits)
    except Refused as refusal:
        return Upload(name, b"", str(refusal))
    return Upload(name, data)


def _is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as handle:
            return handle.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _of_zip(path: Path, limits: Limits, most: int) -> tuple[list[Upload], list[str]]:
    try:
        with zipfile.ZipFile(path) as opened:
            members = [item for item in opened.infolist() if not _is_clutter(item)]
            for item in members:
                _require_plain(item, path.name)
            pictures = [item for item in members if _may_be_picture(item.filename)]
            if len(pictures) > most:
                raise Refused(too_many(len(pictures), most))
            claimed = sum(item.file_size for item in pictures)
            if claimed > limits.unpacked_bytes:
                raise Refused(_unpacks_to_too_much(path.name, limits))
            found = list(_members(opened, pictures, path.name, limits))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError):
        raise Refused(
            f"{path.name} cannot be opened as a zip; it may be damaged. Pack it again."
        ) from None
    others = len(members) - len(pictures)
    archives = sum(item.filename.lower().endswith(".zip") for item in members)
    notes = []
    if archives:
        notes.append(f"{archives} zip(s) within {path.name} were not opened.")
    if others - archives:
        notes.append(f"{others - archives} other file(s) in {path.name} were passed over.")
    return found, notes


def _members(
    opened: zipfile.ZipFile, items: Iterable[zipfile.ZipInfo], archive: str, limits: Limits
) -> Iterable[Upload]:
    room = limits.unpacked_bytes
    for item in items:
        try:
            data = _bounded(opened, item, limits.file_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError):
            yield Upload(item.filename, b"", "It is damaged within the zip. Pack it again.")
            continue
        room -= len(data)
        if room < 0:
            raise Refused(_unpacks_to_too_much(archive, limits))
        yield _checked(item.filename, data, limits)


def _bounded(opened: zipfile.ZipFile, item: zipfile.ZipInfo, most: int) -> bytes:
    """The member's bytes, at most one more than `most`: what a zip says of sizes may be a lie."""
    parts, count = [], 0
    with opened.open(item) as source:
        while count <= most and (part := source.read(min(_PIECE, most + 1 - count))):
            parts.append(part)
            count += len(part)
    return b"".join(parts)


def _require_plain(item: zipfile.ZipInfo, archive: str) -> None:
    name = item.filename
    path = PurePosixPath(name)
    reason = ""
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]:
        reason = "a path that leads out of its folder"
    elif stat.S_ISLNK(item.external_attr >> 16):
        reason = "a link"
    elif item.flag_bits & 0x1:
        reason = "a file with a password"
    if reason:
        raise Refused(f"{archive} holds {reason} ({name[:80]!r}), so it is refused. Pack it again.")


def _unpacks_to_too_much(archive: str, limits: Limits) -> str:
    return (
        f"{archive} unpacks to more than {limits.unpacked_mb} MB, which is more than is taken. "
        "Send fewer pictures at a time."
    )


def _is_clutter(item: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(item.filename)
    return item.is_dir() or "__MACOSX" in name.parts or name.name.startswith("._")


def _may_be_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
