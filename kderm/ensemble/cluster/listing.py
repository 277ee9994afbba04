"""The images to predict, on the disk: read chunk by chunk, so that millions take no memory.

A small database of one file. Here it is filled and asked; `folder_listing` finds what goes in.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.ensemble.image_files import size_and_time
from kderm.ensemble.inputs import COLUMNS, Inputs
from kderm.errors import UserError


@dataclass(frozen=True)
class Listing:
    """A listing that is complete.

    Attributes:
        file: the database.
        images: how many there are.
        sources, skipped, repeated, notes, warnings: as of `Inputs`.
    """

    file: Path
    images: int
    sources: tuple[str, ...]
    skipped: int
    repeated: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def slice(self, start: int, stop: int) -> Inputs:
        """Images `start` to `stop` as inputs of their own; nothing is known of them but their file.

        What is told of all of them is in the `Listing`, not in its slices.
        """
        with opened(self.file) as base:
            rows = base.execute(
                "SELECT image_id, path, problem FROM images WHERE position > ? AND position <= ? "
                "ORDER BY position",
                (start, stop),
            ).fetchall()
        names, paths, problems = zip(*rows, strict=True) if rows else ((), (), ())
        known = {"image_id": names, "path": paths, "problem": problems}
        table = pd.DataFrame({column: known.get(column, "") for column in COLUMNS}, dtype=str)
        return Inputs(table, self.sources, 0, 0)

    def inside(self, folder: Path) -> Inputs:
        """The images whose file lies in `folder` itself, a few of them."""
        top = f"{os.path.realpath(folder)}{os.sep}"
        with opened(self.file) as base:
            rows = base.execute(
                "SELECT position FROM images WHERE substr(real, 1, ?) = ? "
                "AND instr(substr(real, ?), ?) = 0 LIMIT 1",
                (len(top), top, len(top) + 1, os.sep),
            ).fetchall()
        start = rows[0][0] - 1 if rows else 0
        return self.slice(start, start + len(rows))

    def columns(self) -> Iterator[tuple[str, str, str, str]]:
        """(path, problem, what tells that the file was replaced, metadata) of each, in order."""
        with opened(self.file) as base:
            yield from base.execute(
                "SELECT path, problem, state, hex(known) FROM images ORDER BY position"
            )

    def ask_for(self, chunks: list[int]) -> None:
        """Note which chunks are to be predicted, for `asked_chunks`."""
        with opened(self.file, write=True) as base:
            base.execute("DROP TABLE IF EXISTS asked")
            base.execute("CREATE TABLE asked (number INTEGER PRIMARY KEY, chunk INTEGER)")
            base.executemany("INSERT INTO asked VALUES (?, ?)", enumerate(chunks))


@dataclass(frozen=True)
class Chunk:
    """Images that are predicted together.

    Attributes:
        number: of the chunk.
        images: (path, problem) of each.
        metadata: float32 (n, d), encoded, for members that take them; None for others.
        seen: a file among them that is there where the listing is; "" for none.
    """

    number: int
    images: list[tuple[str, str]]
    metadata: np.ndarray | None
    seen: str = ""

    def to_json(self) -> bytes:
        """The chunk for `from_json`, every value as it is."""
        known = None if self.metadata is None else self.metadata.tolist()
        return json.dumps([self.number, self.images, known, self.seen]).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Chunk":
        """Read what `to_json` gave."""
        number, images, known, seen = json.loads(content)
        metadata = None if known is None else np.array(known, np.float32)
        return cls(number, [(path, problem) for path, problem in images], metadata, seen)


def asked_chunks(file: Path, numbers: Iterable[int], size: int) -> Iterator[Chunk]:
    """What was asked for, by its number.

    Args:
        file: of the listing.
        numbers: positions in the list that `ask_for` was given.
        size: images of a chunk.
    """
    with opened(file) as base:
        for number in numbers:
            query = "SELECT chunk FROM asked WHERE number = ?"
            ((chunk,),) = base.execute(query, (int(number),))
            rows = base.execute(
                "SELECT path, problem, known FROM images WHERE position > ? AND position <= ? "
                "ORDER BY position",
                (chunk * size, (chunk + 1) * size),
            ).fetchall()
            known = [np.frombuffer(row[2], np.float32) for row in rows if row[2] is not None]
            images = [(path, problem) for path, problem, _ in rows]
            yield Chunk(chunk, images, np.stack(known) if known else None)


class opened:
    """The database for as long as the block runs; what was written is kept if it succeeds.

    Raises:
        UserError: SQLite cannot go on there: the disk is full, or no longer to be written to.
    """

    def __init__(self, file: Path, *, write: bool = False) -> None:
        self._mode = "rwc" if write else "ro"
        self._file = file

    def __enter__(self) -> sqlite3.Connection:
        with self._told_clearly():
            self._base = sqlite3.connect(
                f"{self._file.absolute().as_uri()}?mode={self._mode}", uri=True
            )
            # Sorting happens on the disk. After a crash the listing is made anew.
            for pragma in ("temp_store=FILE", "journal_mode=OFF", "synchronous=OFF"):
                self._base.execute(f"PRAGMA {pragma}")
            return self._base

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        with self._told_clearly(), contextlib.closing(self._base):
            if kind is None:
                self._base.commit()
            elif issubclass(kind, sqlite3.OperationalError):
                raise error

    @contextlib.contextmanager
    def _told_clearly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(
                f"Expected room for the list of images in {self._file.parent}, about 650 bytes "
                f"each, and as much for sorting it in the system's temporary folder (SQLITE_TMPDIR "
                f"names another). Received: {error}. Make room, or choose another folder with "
                "--out, and repeat the command."
            ) from error


def listing_of(inputs: Inputs, file: Path, metadata: np.ndarray | None = None) -> Listing:
    """Write `inputs` that are in memory, with encoded `metadata` for members that take them."""
    columns = [inputs.table[name] for name in ("image_id", "path", "problem")]
    known = [None] * len(inputs) if metadata is None else (row.tobytes() for row in metadata)
    rows = zip(*columns, map(state_of, inputs.table["path"]), known, strict=True)
    with opened(file, write=True) as base:
        base.execute(
            "CREATE TABLE images (position INTEGER PRIMARY KEY, image_id TEXT, path TEXT, "
            "problem TEXT, state TEXT, known BLOB)"
        )
        base.executemany(
            "INSERT INTO images (image_id, path, problem, state, known) VALUES (?, ?, ?, ?, ?)",
            rows,
        )
    return Listing(
        *(file, len(inputs), inputs.sources, inputs.skipped, inputs.repeated),
        notes=inputs.notes,
        warnings=inputs.warnings,
    )


def state_of(path: str) -> str:
    """What tells that a file was replaced."""
    return "-".join(map(str, size_and_time(path)))
