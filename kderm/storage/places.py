"""A place that files are kept in under names: a folder, or whatever fsspec has a URL for.

What every place can do, an object store too: write a file whole, read it, list, remove. There is
no rename and no append, and two writers of one name leave one of their files. So names that matter
are written once and never again, and what says that they are all there is written last.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kderm.atomic import atomic_path
from kderm.errors import UserError, missing_extra

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# The package that brings a filesystem which fsspec itself only knows by name.
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
_PACKAGES |= {"abfs": "adlfs", "abfss": "adlfs", "http": "aiohttp", "https": "aiohttp"}

# Under what filesystems say when a file was written.
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "modified", "created")


def is_url(text: object) -> bool:
    """Whether `text` names something by URL, such as s3://bucket/runs, and not by path."""
    return isinstance(text, str) and _URL.match(text) is not None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Kept:
    """A file that a place holds.

    Attributes:
        name: under the place, with "/" between its parts.
        size: in bytes.
        version: differs from that of any other content which the place held under this name.
        written: when, in an order that a place keeps; "" where it does not say.
    """

    name: str
    size: int
    version: str
    written: str = ""


class Place:
    """Files under names in a folder of this machine or of a disk that several share."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def holds(self, path: Path) -> bool:
        """Whether the file `path` of this machine is one of the place's own."""
        return path.absolute().is_relative_to(self.folder)

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError where there is none."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Keep `content` under `name`, whole or not at all."""
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def upload(self, path: Path, name: str) -> None:
        """Keep a copy of the file `path` under `name`, whole or not at all."""
        with atomic_path(self.folder / name) as temporary:
            shutil.copyfile(path, temporary)

    def download(self, name: str, path: Path) -> None:
        """Copy a file to `path`, whole or not at all; FileNotFoundError where there is none."""
        source = self.folder / name
        source.stat()  # before a folder is made for it
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)

    def files(self, below: str = "") -> list[Kept]:
        """All files under the name `below` but temporary ones, in the order of their names.

        Raises:
            UserError: they cannot be listed: an empty answer means that there are none.
        """
        found = []
        for root, _, files in os.walk(self.folder / below, onerror=self._cannot_list):
            for file in files:
                path = Path(root, file)
                if not is_temporary(path.relative_to(self.folder).as_posix()):
                    with contextlib.suppress(FileNotFoundError):  # it has just been removed
                        found.append(self._kept(path))
        return sorted(found, key=lambda kept: kept.name)

    def matching(self, pattern: str) -> list[Kept]:
        """The files that a pattern such as */done.json matches, the last written last."""
        found = [self._kept(path) for path in self.folder.glob(pattern)]
        return sorted(found, key=lambda kept: kept.written)

    def find(self, name: str) -> Kept | None:
        """The file `name`, or None."""
        path = self.folder / name
        return self._kept(path) if path.is_file() else None

    def remove(self, name: str) -> None:
        """Remove a file, or all files under a name; nothing where there is none."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _cannot_list(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it has never been made, or just been removed
            raise UserError(
                f"Expected to list the files at {self.url}. Received: {error}. Check that the disk "
                "is there and may be read, then repeat the command."
            ) from error

    def _kept(self, path: Path) -> Kept:
        status = path.stat()
        name = path.relative_to(self.folder).as_posix()
        version = f"{status.st_size}-{status.st_mtime_ns}"
        return Kept(name, status.st_size, version, f"{status.st_mtime_ns:020d}")


class UrlPlace(Place):
    """Files under names wherever fsspec reaches."""

    def __init__(self, url: str, filesystem: Any, root: str) -> None:
        self.url, self._fs, self._root = url, filesystem, root.rstrip("/")

    def holds(self, path: Path) -> bool:
        return False

    def read(self, name: str) -> bytes:
        with self._told(f"read {name}"):
            return self._fs.cat_file(self._at(name))

    def write(self, name: str, content: bytes) -> None:
        with self._told(f"write {name}", nothing=UserError):
            self._parents(name)
            self._fs.pipe_file(self._at(name), content)

    def upload(self, path: Path, name: str) -> None:
        with self._told(f"write {name}", nothing=UserError):
            self._parents(name)
            self._fs.put_file(os.fspath(path), self._at(name))

    def download(self, name: str, path: Path) -> None:
        with self._told(f"read {name}"):
            self._fs.info(self._at(name))  # before a folder is made for it
        with self._told(f"read {name}"), atomic_path(path) as temporary:
            self._fs.get_file(self._at(name), os.fspath(temporary))

    def files(self, below: str = "") -> list[Kept]:
        found = {}
        with contextlib.suppress(FileNotFoundError), self._told(f"list {below}"):
            self._fs.invalidate_cache()
            found = self._fs.find(self._at(below), detail=True)
        kept = [each for each in self._all_kept(found) if not is_temporary(each.name)]
        return sorted(kept, key=lambda each: each.name)

    def matching(self, pattern: str) -> list[Kept]:
        found = {}
        with contextlib.suppress(FileNotFoundError), self._told(f"list {pattern}"):
            self._fs.invalidate_cache()
            found = self._fs.glob(f"{self._root}/{pattern}", detail=True)
        return sorted(self._all_kept(found), key=lambda each: each.written)

    def find(self, name: str) -> Kept | None:
        try:
            with self._told(f"find {name}"):
                self._fs.invalidate_cache()
                info = self._fs.info(self._at(name))
        except FileNotFoundError:
            return None
        return self._kept(self._at(name), info) if info["type"] == "file" else None

    def remove(self, name: str) -> None:
        # Where nothing is found another has removed it.
        with contextlib.suppress(FileNotFoundError), self._told(f"remove {name}"):
            self._fs.invalidate_cache()
            if found := list(self._fs.find(self._at(name))):
                self._fs.rm(found)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/") if name else self._root

    def _parents(self, name: str) -> None:
        protocols = self._fs.protocol
        protocols = {protocols} if isinstance(protocols, str) else set(protocols)
        # Object stores have no folders, and their makedirs would ask for the right to make buckets.
        if not protocols & set(_PACKAGES):
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    def _all_kept(self, found: dict[str, dict]) -> list[Kept]:
        """What is found; an object's key may be anything, and becomes the name of a file here."""
        kept = (self._kept(path, info) for path, info in found.items())
        return [each for each in kept if is_inside(each.name)]

    def _kept(self, path: str, info: dict) -> Kept:
        name = path[len(self._root) :].removeprefix("/")
        digests = (info.get(key) for key in ("ETag", "etag", "md5Hash", "generation"))
        times = (info.get(key) for key in _TIMES)
        digest = next((str(each) for each in digests if each), "")
        written = next((str(each) for each in times if each), "")
        size = int(info["size"] or 0)
        return Kept(name, size, f"{size}-{digest or written}", written)

    @contextlib.contextmanager
    def _told(self, what: str, nothing: type = FileNotFoundError) -> Iterator[None]:
        """Tell errors, of whatever kind the filesystem's package raises, as a `UserError`.

        FileNotFoundError goes through: it is an answer. Not where something is written (`nothing`).
        """
        try:
            yield
        except (UserError, nothing):
            raise
        except Exception as error:
            raise UserError(
                f"Expected to {what.strip()} at {self.url}. Received: {type(error).__name__}: "
                f"{error}. Check the address, your credentials and rights there, and the network, "
                "then repeat the command: what was finished before is kept."
            ) from error


def open_place(url: str | os.PathLike) -> Place:
    """The place at a URL or a path.

    Raises:
        UserError: an extra or a filesystem's package is missing, or fsspec knows no such URL.
    """
    text = os.fspath(url)
    if not is_url(text) or text.startswith("file://"):
        path = Path(text.removeprefix("file://")).expanduser().absolute()
        return Place(f"file://{path}", path)  # not as_uri(): nothing here decodes "%20"
    filesystem, root = open_filesystem(text)
    return UrlPlace(text.rstrip("/"), filesystem, root)


def open_filesystem(url: str) -> tuple[Any, str]:
    """fsspec's filesystem for a URL, and the path in it.

    Raises:
        UserError: as `open_place`.
    """
    try:
        import fsspec
    except ImportError:
        raise missing_extra("fsspec", "cluster", f"The address {url}") from None
    protocol = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _PACKAGES.get(protocol, "")
        do = f"Install it with: pip install {package}" if package else str(error)
        raise UserError(
            f"Addresses that begin with {protocol}:// need the package "
            f"{package or 'that fsspec names'}, which is not installed. {do}"
        ) from None
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "az", "file"))
        raise UserError(
            f"Expected a path, or a URL such as {known}... Received: {url} ({error})."
        ) from None


def read_url(url: str) -> bytes:
    """The content of a file at a URL; an OSError says why there is none."""
    try:
        filesystem, path = open_filesystem(url)
        return filesystem.cat_file(path)
    except (OSError, UserError):
        raise
    except Exception as error:  # what a filesystem's own package raises
        raise OSError(0, f"{type(error).__name__}: {error}") from error


def is_inside(name: str) -> bool:
    """Whether a name with "/" between its parts stays below any folder that it is joined to."""
    return not {"", ".", ".."} & set(name.replace("\\", "/").split("/")) and "\0" not in name


def is_temporary(name: str) -> bool:
    """Whether a file of this name is another process's unfinished work, or its lock."""
    parts = name.split("/")
    return parts[-1] == ".lock" or any(part[:1] == "." and ".tmp" in part for part in parts)
