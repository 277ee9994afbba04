"""From uploaded files to pictures in memory: bytes with a name, or the sentence that refuses them.

Nothing is unpacked to a disk: the members of a zip are read one by one, bounded in number, in bytes
each and in bytes together, whatever the zip's directory claims. Names are for showing only and
never become paths.
"""

import lzma
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kderm.app.limits import Limits, Refused, check_picture, too_many_bytes
from kderm.counting import counted
from kderm.data.images import IMAGE_SUFFIXES

_PIECE = 1 << 20
# Bytes of a zip's directory that a file may take on average.
_DIRECTORY_ENTRY = 250
_DRIVE = re.compile(r"[A-Za-z]:")
_GONE = "The file is no longer on the server. Send it again."
# What the standard library raises for damaged zips and members.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, OSError, ValueError),
)


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


class _Room:
    """What one request may still bring: pictures, their bytes and their pixels, zips opened."""

    def __init__(self, limits: Limits, most: int) -> None:
        self.limits, self._most = limits, most
        self._pictures, self._bytes, self._pixels = 0, 0, 0

    def add_pictures(self, count: int) -> None:
        """Count pictures before they are read."""
        self._pictures += count
        if self._pictures > self._most:
            raise Refused(too_many(self._pictures, self._most))

    def add_bytes(self, count: int) -> None:
        """Count bytes that were read."""
        self.require_bytes(count)
        self._bytes += count

    def require_bytes(self, count: int) -> None:
        """Refuse bytes that there is no room for."""
        if self._bytes + count > self.limits.unpacked_bytes:
            raise Refused(
                f"What was sent unpacks to more than {self.limits.unpacked_mb} MB, which is more "
                "than is taken. Send fewer pictures at a time."
            )

    def add_pixels(self, count: int) -> None:
        """Count pixels that will be decoded."""
        self._pixels += count
        if self._pixels > self.limits.all_megapixels * 1_000_000:
            raise Refused(
                f"These pictures have more than {self.limits.all_megapixels} million pixels "
                "together, which is more than is taken. Send fewer at a time, or smaller ones."
            )


def read_uploads(paths: Sequence[str | Path], limits: Limits, most: int) -> Uploads:
    """The pictures in the files at `paths`, zips opened.

    Args:
        paths: files where the server put what was sent.
        limits: what is taken; its bounds hold for all files together.
        most: pictures that are taken together.

    Raises:
        Refused: there is no picture, there are too many, or a zip cannot be taken.
    """
    room = _Room(limits, most)
    zips = {path for path in map(Path, paths) if _is_zip(path)}
    passed_over = {
        path
        for path in map(Path, paths)
        if len(paths) > 1 and path not in zips and not _may_be_picture(path.name)
    }
    room.add_pictures(sum(path not in zips | passed_over for path in map(Path, paths)))
    pictures: list[Upload] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if path in zips:
            found, others = _of_zip(path, room)
            pictures += found
            notes += others
        elif path in passed_over:
            notes.append(f"The file {path.name} is no picture and was passed over.")
        else:
            pictures.append(_of_file(path, room))
    if not pictures:
        raise Refused("There is no picture in what was sent. Send JPEG or PNG files.")
    return Uploads(tuple(pictures), tuple(notes))


def too_many(count: int, most: int) -> str:
    """What to say of `count` pictures where `most` are taken."""
    return (
        f"These are {count} pictures, and at most {most} are answered together. Send fewer at a "
        "time, or use the command ensemble-predict, which takes any number."
    )


def _of_file(path: Path, room: _Room) -> Upload:
    try:
        size = path.stat().st_size
        if size > room.limits.file_bytes:
            return Upload(path.name, b"", too_many_bytes(size, room.limits))
        room.add_bytes(size)
        data = path.read_bytes()
    except OSError:
        return Upload(path.name, b"", _GONE)
    return _checked(path.name, data, room)


def _checked(name: str, data: bytes, room: _Room) -> Upload:
    try:
        pixels = check_picture(data, room.limits)
    except Refused as refusal:
        return Upload(name, b"", str(refusal))
    room.add_pixels(pixels)
    return Upload(name, data)


def _is_zip(path: Path) -> bool:
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as handle:
            return handle.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _of_zip(path: Path, room: _Room) -> tuple[list[Upload], list[str]]:
    try:
        _require_short_directory(path, room.limits)
        with zipfile.ZipFile(path) as opened:
            members = [item for item in opened.infolist() if not _is_clutter(item)]
            for item in members:
                _require_plain(item, path.name)
            pictures = [item for item in members if _may_be_picture(item.filename)]
            room.add_pictures(len(pictures))
            room.require_bytes(sum(item.file_size for item in pictures))
            found = list(_members(opened, pictures, room))
    except FileNotFoundError:
        raise Refused(f"{path.name}: {_GONE}") from None
    except _DAMAGED:
        raise Refused(
            f"{path.name} cannot be opened as a zip; it may be damaged. Pack it again."
        ) from None
    others = len(members) - len(pictures)
    archives = sum(item.filename.lower().endswith(".zip") for item in members)
    notes = []
    if archives:
        notes.append(f"Not opened: {counted(archives, 'zip')} within {path.name}.")
    if others - archives:
        notes.append(f"Passed over: {counted(others - archives, 'other file')} in {path.name}.")
    return found, notes


def _require_short_directory(path: Path, limits: Limits) -> None:
    """Refuse a zip of very many files by its end record, before its directory is read."""
    with path.open("rb") as handle:
        end = zipfile._EndRecData(handle)  # the very record that ZipFile goes by
    if end is None:
        raise zipfile.BadZipFile
    count, size = end[zipfile._ECD_ENTRIES_TOTAL], end[zipfile._ECD_SIZE]
    if count > limits.members or size > limits.members * _DIRECTORY_ENTRY:
        raise Refused(
            f"{path.name} holds more files than are taken ({limits.members}), pictures or not. "
            "Pack fewer."
        )


def _members(
    opened: zipfile.ZipFile, items: Iterable[zipfile.ZipInfo], room: _Room
) -> Iterable[Upload]:
    for item in items:
        try:
            data = _bounded(opened, item, room.limits.file_bytes)
        except _DAMAGED:
            yield Upload(item.filename, b"", "It is damaged within the zip. Pack it again.")
            continue
        room.add_bytes(len(data))
        yield _checked(item.filename, data, room)


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
    if path.is_absolute() or ".." in path.parts or "\\" in name or _DRIVE.match(name):
        reason = "a path that leads out of its folder"
    elif stat.S_ISLNK(item.external_attr >> 16):
        reason = "a link"
    elif item.flag_bits & 0x1:
        reason = "a file with a password"
    if reason:
        raise Refused(f"{archive} holds {reason} ({name[:80]!r}), so it is refused. Pack it again.")


def _is_clutter(item: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(item.filename)
    return item.is_dir() or "__MACOSX" in name.parts or name.name.startswith("._")


def _may_be_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
