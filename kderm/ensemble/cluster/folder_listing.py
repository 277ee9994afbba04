"""Folders, files and patterns to a listing on the disk: the ids and the order of `find_inputs`.

Memory is that of the largest folder's names, and of what a pattern of URLs matches. What needs a
table in memory is left to `find_inputs`: CSVs, and folders named after classes, whose images get a
report.
"""

import glob
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from kderm.data.datasets.image_index import is_hidden, is_image_name, walk_files
from kderm.ensemble.cluster.listing import Listing, opened, state_of
from kderm.ensemble.inputs import NOT_UTF8, TABLE_SUFFIXES, absolute, expand, printable
from kderm.ensemble.url_images import images_at
from kderm.labels import LabelSpace
from kderm.storage.places import is_url

_FOUND = (
    "CREATE TABLE found (source INTEGER, match BLOB, key BLOB, problem TEXT, path TEXT, "
    "real TEXT, state TEXT, first TEXT, second TEXT, third TEXT)"
)
_IMAGES = (
    "CREATE TABLE images (position INTEGER PRIMARY KEY, image_id TEXT, path TEXT, problem TEXT, "
    "state TEXT, known BLOB, real TEXT UNIQUE, first TEXT, second TEXT, third TEXT, level INTEGER)"
)
_NAME = "CASE level WHEN 0 THEN first WHEN 1 THEN second ELSE third END"
_NEXT = "CASE level WHEN 0 THEN second WHEN 1 THEN third END"


def list_folders(sources: Sequence[str], labels: LabelSpace, file: Path) -> Listing | None:
    """List all images that `sources` name, each file once.

    Args:
        sources: see `find_inputs`.
        labels: tells whether folders are named after classes.
        file: the database to make.

    Returns:
        None where a table in memory is needed, or where there is no image at all.

    Raises:
        UserError: a source that does not exist.
    """
    skipped, images, labelled = 0, 0, True
    with opened(file, write=True) as base:
        base.execute(_FOUND)
        for number, match, path in _expanded(sources):
            if not is_url(path) and path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
                return None
            for row in _rows_at_url(path) if is_url(path) else _rows(path):
                if row is None:
                    skipped += 1
                    continue
                folders, key, *texts = row
                labelled = labelled and any(labels.resolve(folder) for folder in folders)
                images += 1
                told = [text and printable(text) for text in texts]
                values = (number, match, key, "" if told == texts else NOT_UTF8, *told)
                base.execute(f"INSERT INTO found VALUES ({', '.join('?' * len(values))})", values)
        if labelled:  # or nothing was found
            return None
        unique = _each_file_once(base)
        _name(base)
    asked = tuple(map(absolute, sources))
    return Listing(file, unique, asked, skipped, images - unique)


def _expanded(sources: Sequence[str]) -> Iterator[tuple[int, bytes, Path | str]]:
    """(its number, what sorts matches of one source, path) of what `expand` gives, unsorted."""
    for number, source in enumerate(map(str, sources)):
        path = Path(source).expanduser()
        matched = False
        if not is_url(source) and not path.exists() and glob.has_magic(source):
            for match in glob.iglob(str(path), recursive=True):
                matched = True
                yield number, _sorting(Path(match).parts), Path(match)
        if not matched:  # it is no pattern, or `expand` says that it matches nothing
            for each in expand(source):
                yield number, b"", each


def _sorting(parts: Sequence[str]) -> bytes:
    """Bytes that sort as `parts` do."""
    return b"\0".join(map(os.fsencode, parts))


def _rows(source: Path) -> Iterator[tuple | None]:
    """(folders that may name a class, columns of `found` but the first); None for other files."""
    if not source.is_dir():
        if is_hidden(source) or not is_image_name(source):
            yield None
            return
        path, real = str(source), os.path.realpath(source)
        folders = [source.absolute().parent.name]
        yield folders, b"", path, real, state_of(path), source.stem, path, None
        return
    top = source.absolute().name
    for root, names in walk_files(source):
        folder = Path(root)
        inside, real_folder = folder.relative_to(source), os.path.realpath(root)
        folders = [*reversed(inside.parts), top]
        for name in names:
            if not is_image_name(name):
                yield None
                continue
            path = os.path.join(folder, name)
            real = os.path.join(real_folder, name)
            if os.path.islink(path):
                real = os.path.realpath(path)
            below = os.path.join(inside, name) if inside.parts else name
            key = _sorting((*inside.parts, name))
            yield folders, key, path, real, state_of(path), Path(name).stem, below, path


def _rows_at_url(url: str) -> Iterator[tuple | None]:
    """The same of a URL."""
    for image in images_at(url):
        if image is None:
            yield None
            continue
        names = (Path(image.inside).stem, image.inside, image.url)
        key = _sorting(image.inside.split("/"))
        yield image.folders, key, image.url, image.url, image.state, *names


def _each_file_once(base: sqlite3.Connection) -> int:
    """Put the images in their order; how many there are."""
    base.execute(_IMAGES)
    base.execute(
        "INSERT OR IGNORE INTO images (path, problem, state, real, first, second, third, level) "
        "SELECT path, problem, state, real, first, second, third, 0 FROM found "
        "ORDER BY source, match, key"
    )
    base.execute("DROP TABLE found")
    return base.execute("SELECT COUNT(*) FROM images").fetchone()[0]


def _name(base: sqlite3.Connection) -> None:
    """Give each image the first of its names that no other goes by; at the end a number."""
    changed = 1
    while changed:
        base.execute("DROP TABLE IF EXISTS shared")
        base.execute(
            f"CREATE TABLE shared AS SELECT {_NAME} AS name FROM images GROUP BY 1 "
            "HAVING COUNT(*) > 1"
        )
        base.execute("CREATE UNIQUE INDEX shared_name ON shared (name)")
        changed = base.execute(
            f"UPDATE images SET level = level + 1 WHERE {_NEXT} IS NOT NULL "
            f"AND {_NAME} IN (SELECT name FROM shared)"
        ).rowcount
    base.execute(f"UPDATE images SET image_id = {_NAME}")
    base.execute(
        "UPDATE images SET image_id = image_id || '#' || place FROM (SELECT position AS at, "
        "ROW_NUMBER() OVER (PARTITION BY image_id ORDER BY position) AS place FROM images "
        "WHERE image_id IN (SELECT name FROM shared)) WHERE position = at AND place > 1"
    )
