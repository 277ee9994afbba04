"""The actor that predicts: one a GPU or a part of the cores, anywhere in a cluster.

The ensemble's files come to it by Ray, so it needs no disk that others share; the images it reads
itself, from wherever their paths lead.
"""

import contextlib
import io
import json
import os
import socket
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import kderm
from kderm.atomic import atomic_path
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.cluster.listing import Chunk, asked_chunks
from kderm.ensemble.engines.record import find_export
from kderm.ensemble.predictor import Ensemble
from kderm.ensemble.read_ahead import decoded_chunks
from kderm.ensemble.settings import Settings
from kderm.errors import UserError
from kderm.leftovers import temporary_beside
from kderm.storage.places import is_url


@dataclass(frozen=True)
class Order:
    """What every actor is told.

    Attributes:
        files: name in the bundle's folder -> Ray's reference to its content.
        asked: how the answers are made.
        batch_size: images a forward pass.
        images: how many there are in all.
        kderm: the version here.
    """

    files: dict
    asked: Settings
    batch_size: int
    images: int
    kderm: str


def bundle_files(bundle: Bundle, asked: Settings) -> dict[str, bytes]:
    """Name -> content of all files that predicting with a bundle needs."""
    files = [bundle.directory / name for name in bundle.needed_files]
    if asked.engine != "keras":
        export = find_export(bundle, asked.engine, asked.precision)
        files += sorted(path for path in export.directory.iterdir() if path.is_file())
    named = {path.relative_to(bundle.directory).as_posix(): path.read_bytes() for path in files}
    return named | {"ensemble.json": json.dumps(bundle.facts.model_dump(mode="json")).encode()}


class ChunksFrom:
    """Reads chunks of the listing; runs where the listing is."""

    def __init__(self, file: Path, size: int, folder: str) -> None:
        """Args:
        file: the listing's database.
        size: images of a chunk.
        folder: that relative paths start from.
        """
        self._file, self._size, self._folder = file, size, folder

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of `number` and `images`, a `Chunk` as JSON, for the numbers `id`."""
        found = list(asked_chunks(self._file, batch["id"], self._size))
        content = [self._anywhere(chunk).to_json() for chunk in found]
        return {
            "number": np.array([chunk.number for chunk in found]),
            "images": np.array(content, dtype=object),
        }

    def _anywhere(self, chunk: Chunk) -> Chunk:
        """The chunk with paths that do not depend on the folder that a worker runs in."""
        images = [
            (path if is_url(path) else os.path.join(self._folder, path), problem)
            for path, problem in chunk.images
        ]
        seen = images[0][0] if images and os.path.isfile(images[0][0]) else ""
        return replace(chunk, images=images, seen=seen)


class Predictor:
    """An actor; holds the members from its first chunk on."""

    def __init__(self, order: Order) -> None:
        self._order, self._ensemble, self._refused = order, None, ""
        if order.kderm != kderm.__version__:
            self._refused = (
                f"Expected kderm {order.kderm} on every node, as where the command was given. "
                f"Received: {kderm.__version__} on {socket.gethostname()}."
            )

    def _open(self, stack: contextlib.ExitStack) -> Ensemble:
        """The ensemble; its files are here until `stack` ends, for the members to be loaded."""
        import ray

        folder = Path(tempfile.gettempdir()) / "kderm-ensemble"
        folder = stack.enter_context(temporary_beside(folder))
        for name, reference in self._order.files.items():
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(ray.get(reference))
        order = self._order
        return Ensemble(read_bundle(folder), order.asked, order.batch_size, order.images)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """For each chunk a row of its `number`, its `part` (an npz file) and `error`, why none."""
        numbers = [int(number) for number in batch["number"]]
        try:
            for number, part in self._answers(numbers, batch["images"]):
                yield _row(number, part)
        except UserError as error:
            yield _row(numbers[0], b"", str(error))
        except Exception:
            yield _row(numbers[0], b"", traceback.format_exc())

    def _answers(self, numbers: list[int], contents: np.ndarray) -> Iterator[tuple[int, bytes]]:
        if self._refused:
            raise UserError(self._refused)
        told = {n: Chunk.from_json(content) for n, content in zip(numbers, contents, strict=True)}
        chunks = [(number, chunk.images) for number, chunk in told.items()]
        with contextlib.ExitStack() as stack:
            ensemble = self._ensemble or self._open(stack)
            for chunk in told.values():
                _refuse_missing(chunk.seen)
            for decoded in decoded_chunks(chunks, ensemble.bundle.spec):
                metadata = told[decoded.number].metadata
                answer = ensemble.answer(decoded, lambda done: None, metadata)
                self._ensemble = ensemble
                stack.close()  # the members are in memory now
                packed = io.BytesIO()
                np.savez(packed, **answer)
                yield decoded.number, packed.getvalue()


def _refuse_missing(seen: str) -> None:
    """Refuse to call all images unreadable where this node does not have their disk."""
    if seen and not os.path.exists(seen):
        raise UserError(
            "Expected the images under the same path on every node. Received: no file "
            f"{seen} on {socket.gethostname()}. Mount the folder there, name the images by URL, or "
            "take the node out of the cluster; then repeat the command: what is there is kept."
        )


def _row(number: int, part: bytes, error: str = "") -> dict[str, np.ndarray]:
    content = np.array([part], dtype=object)  # as text of bytes NumPy would cut zeros off
    return {"number": np.array([number]), "part": content, "error": np.array([error])}
