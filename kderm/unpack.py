"""A zip archive into a folder: whole or absent, and never a file outside of it."""

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kderm.download import require_room
from kderm.errors import UserError
from kderm.leftovers import temporary_beside

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Unpack `archive` so that its files lie in `folder`, which appears by one rename.

    Where all files lie in one folder of the archive, that folder becomes `folder`, whatever its
    name; what macOS adds (`__MACOSX`) is left out.

    Args:
        archive: a zip file; it is left as it is.
        folder: must not exist, or be empty.
        progress: called with (bytes done, bytes in all) after each file.

    Raises:
        UserError: no zip file, a damaged one, or one with a path that leads out of it.
        DownloadError: no room on the disk.
    """
    try:
        with temporary_beside(folder) as temporary, zipfile.ZipFile(archive) as opened:
            members = [item for item in opened.infolist() if _is_wanted(item)]
            for item in members:
                _require_safe(item, archive)
            require_room(folder.parent, sum(item.file_size for item in members))
            _extract(opened, members, temporary, progress)
            inside = list(temporary.iterdir())
            only = inside[0] if len(inside) == 1 and inside[0].is_dir() else temporary
            os.replace(only, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(
            f"Expected a whole zip archive. Received: {archive} ({error}). Delete it and fetch it "
            "again."
        ) from None


def _extract(
    opened: zipfile.ZipFile,
    members: list[zipfile.ZipInfo],
    folder: Path,
    progress: Progress | None,
) -> None:
    folder.mkdir(parents=True)
    total, done = sum(item.file_size for item in members), 0
    for item in members:
        target = folder / item.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(item) as source, open(target, "wb") as handle:
            shutil.copyfileobj(source, handle, 1 << 20)  # the last read compares the CRC
        done += item.file_size
        if progress is not None:
            progress(done, total)


def _is_wanted(item: zipfile.ZipInfo) -> bool:
    return not item.is_dir() and not item.filename.startswith("__MACOSX/")


def _require_safe(item: zipfile.ZipInfo, archive: Path) -> None:
    """Refuse what would be written, or would point, outside of the folder.

    `ZipFile.extract` would bend such names into harmless ones; an official archive has none, so one
    that has is not what it claims to be.
    """
    name = item.filename
    path = PurePosixPath(name)
    leads_out = (
        path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]
    )
    link = stat.S_ISLNK(item.external_attr >> 16)
    if leads_out or link or item.flag_bits & 0x1:
        reason = "a link" if link else "a path that leads out" if leads_out else "encrypted"
        raise UserError(
            f"Expected a plain archive. Received: {archive}, in which {name!r} is {reason}. "
            "Nothing was unpacked. Delete the archive, and do not trust where it came from."
        )
