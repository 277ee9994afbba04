"""Images at URLs, by name only: what `find_inputs` and the listing of a cluster find there.

They are read where they are predicted, by the decoder of all images; nothing is copied.
"""

import glob
from collections.abc import Iterator
from dataclasses import dataclass

from kderm.data.datasets.image_index import is_hidden, is_image_name
from kderm.errors import UserError
from kderm.storage.places import open_filesystem

_TABLES = (".csv", ".tsv", ".tab")


@dataclass(frozen=True)
class UrlImage:
    """An image at a URL.

    Attributes:
        url: of it.
        inside: its path below the folder that was named; its name for one that was named itself.
        folders: names of the folders that it lies in, the nearest first.
        state: what tells that it was replaced.
    """

    url: str
    inside: str
    folders: list[str]
    state: str


def images_at(url: str) -> Iterator[UrlImage | None]:
    """Images at or under a URL or a pattern of URLs; None for each other file.

    Raises:
        UserError: nothing is there, or a table, which can lie beside the command only.
    """
    filesystem, root = open_filesystem(url)
    found = sorted(filesystem.glob(root)) if glob.has_magic(root) else [root]
    if not found or not any(map(filesystem.exists, found)):
        raise UserError(
            f"Expected a folder, an image or a pattern at {url}. Received: nothing that is there. "
            "Check the address and the right to read it."
        )
    for path in found:
        if not filesystem.isfile(path):
            yield from _below(filesystem, path)
            continue
        folder, _, name = path.rpartition("/")
        if name.lower().endswith(_TABLES):
            raise UserError(
                f"Expected images at {url}. Received: a table. Copy it to this machine; its column "
                "'path' may name images by URL."
            )
        if is_hidden(name) or not is_image_name(name):
            yield None
        else:
            top = folder.rpartition("/")[2]
            yield UrlImage(
                filesystem.unstrip_protocol(path), name, [top], _state(filesystem.info(path))
            )


def _below(filesystem: object, top: str) -> Iterator[UrlImage | None]:
    own = top.rstrip("/").rpartition("/")[2]
    for folder, _, files in filesystem.walk(top, detail=True):
        inside = [part for part in folder[len(top.rstrip("/")) :].split("/") if part]
        if any(is_hidden(part) or part == "__MACOSX" for part in inside):
            continue
        for name, info in files.items():
            if not name or is_hidden(name):
                continue
            if not is_image_name(name):
                yield None
                continue
            url = filesystem.unstrip_protocol(info["name"])
            below = "/".join([*inside, name])
            yield UrlImage(url, below, [*reversed(inside), own], _state(info))
        filesystem.invalidate_cache(folder)  # else it would keep the names of all folders


def _state(info: dict) -> str:
    told = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime"))
    return f"{info.get('size')}-{next((str(each) for each in told if each), '')}"
