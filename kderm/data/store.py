"""The image store: every image decoded once, all frames in one memory-mapped file.

Stands between the manifest and the batches of training, so that epochs and folds never decode
again and memory does not grow with the data set. A store's folder:

```
pixels.u8        raw uint8, n x height x width x 3
index.json       image ids in row order; the unreadable ones with their reason
meta.json        digest, spec, n; written last: a store is whole if and only if it is there
progress.jsonl   while building: one line a chunk whose pixels are on the disk
.lock            held (flock) by the one process that builds; the kernel frees it with the process
```

Knows files and frames; no labels, no folds, no Keras.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kderm import atomic
from kderm.counting import counted
from kderm.data.hdf5 import is_member, member_stat
from kderm.data.images import DECODER_VERSION, ImageSpec, UnreadableImage, read_image
from kderm.data.store_build import (
    INDEX,
    META,
    PIXELS,
    Progress,
    StoreBuild,
    forget_progress,
    gigabytes,
    only_builder,
    was_cut_short,
    write_at,
)
from kderm.errors import UserError
from kderm.runtime import core_count


class ImageStore:
    """A whole store, open for reading.

    Attributes:
        images: read-only memory map, uint8 (n, H, W, 3), RGB; rows of unreadable images are black.
        image_ids: the n image ids, in row order.
        unreadable: image id to reason, for the rows that hold no picture.
        spec: the frame.
        digest: what `store_digest` gave for the files it was built from.
    """

    def __init__(
        self,
        images: np.memmap,
        image_ids: list[str],
        unreadable: dict[str, str],
        spec: ImageSpec,
        digest: str,
    ) -> None:
        self.images = images
        self.image_ids = image_ids
        self.unreadable = unreadable
        self.spec = spec
        self.digest = digest

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def open(cls, directory: str | os.PathLike) -> "ImageStore":
        """Open a whole store; its pixels stay on the disk.

        Raises:
            UserError: there is no whole store in `directory`, or its files do not fit together.
        """
        directory = Path(directory)
        try:
            meta = json.loads((directory / META).read_text(encoding="utf-8"))
            index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
            spec = ImageSpec.from_dict(meta["spec"])
            shape = (len(index["image_ids"]), *spec.shape)
            size = (directory / PIXELS).stat().st_size
            if shape[0] != meta["n"] or size != math.prod(shape):
                raise ValueError(f"{size} bytes of pixels for an index of {shape[0]} images")
            images = np.memmap(directory / PIXELS, dtype=np.uint8, mode="r", shape=shape)
        except FileNotFoundError as error:
            raise UserError(
                f"Expected a whole image store in {directory}. Received: a folder without "
                f"{Path(error.filename).name}. Build it with the command prepare and the "
                "config of the run."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The image store in {directory} cannot be used: {error}. "
                "Delete that folder; it is built again from the images."
            ) from None
        return cls(images, index["image_ids"], index["unreadable"], spec, meta["digest"])

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """Rows of `images` for the ids, in the order given.

        Returns:
            int64 array (n,).

        Raises:
            UserError: an id is not in the store, or its image is unreadable.
        """
        asked = [str(image_id) for image_id in image_ids]
        unknown = [image_id for image_id in asked if image_id not in self._row_of]
        if unknown:
            raise UserError(
                f"Expected ids of the image store ({len(self)} images). Received "
                f"{len(unknown)} unknown: {_some(unknown)}. Build the store from the same manifest."
            )
        bad = [image_id for image_id in asked if image_id in self.unreadable]
        if bad:
            raise UserError(
                f"{counted(len(bad), 'image')} that cannot be read: "
                f"{_some(f'{image_id} ({self.unreadable[image_id]})' for image_id in bad)}. "
                "Mend the files, or leave these rows out."
            )
        return np.fromiter((self._row_of[image_id] for image_id in asked), np.int64, len(asked))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {image_id: row for row, image_id in enumerate(self.image_ids)}


def store_digest(image_ids: Sequence[str], paths: Sequence[str | Path], spec: ImageSpec) -> str:
    """What a store's pixels depend on, as 64 hex digits.

    That is, in order, each id with its file's name, size and time of last change, the frame and the
    decoder's version. Folders take no part: a data set that is moved keeps its store.
    """
    digest = hashlib.sha256(json.dumps([DECODER_VERSION, spec.to_dict()]).encode())
    for image_id, path in zip(image_ids, paths, strict=True):
        try:
            status = member_stat(path) if is_member(path) else os.stat(path)
            facts = (status.st_size, status.st_mtime_ns)
        except OSError:
            facts = (-1, -1)
        line = [str(image_id), os.path.basename(path), *facts]
        digest.update(json.dumps(line).encode() + b"\n")
    return digest.hexdigest()


def build_store(
    directory: str | os.PathLike,
    image_ids: Sequence[str],
    paths: Sequence[str | Path],
    spec: ImageSpec,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[ImageStore, dict[str, str]]:
    """Open the store of these images in `directory`, building what is missing of it.

    A whole store with the right digest is opened at once; one with another digest is replaced; one
    that was interrupted (`kill -9` too) goes on after its last chunk. If another process is
    building it, this one waits for it and then opens the result.

    Decoding runs in threads, because Pillow frees the interpreter lock in the codec and the
    resampling (all but 0.1 of 2.4 ms for a 600 x 450 JPEG), and threads need no `__main__` guard.

    Args:
        directory: folder of this one store.
        image_ids: n different ids.
        paths: n files, same order.
        spec: the frame.
        workers: decoding threads; by default one a core.
        progress: called with (images done, n) from the calling thread.

    Returns:
        The store, and image id -> reason of the unreadable images.

    Raises:
        UserError: no images, repeated ids, no room on the disk, or no permission to write.
    """
    directory, image_ids = Path(directory), [str(image_id) for image_id in image_ids]
    paths = [os.fspath(path) for path in paths]  # a Path takes four times the memory of its text
    _check_ids(image_ids, paths)
    report = progress or (lambda done, total: None)
    digest = store_digest(image_ids, paths, spec)
    try:
        store = _open_if_current(directory, digest)
        # A whole store may lie on a disk where nobody may write, so it is used without the lock.
        unfinished = store is None or store.unreadable or was_cut_short(directory)
        if store is None or (unfinished and os.access(directory, os.W_OK)):
            directory.mkdir(parents=True, exist_ok=True)
            with only_builder(directory, len(image_ids), report):
                store = _open_if_current(directory, digest)
                if store is not None:
                    forget_progress(directory)
                if store is None:
                    build = StoreBuild(directory, image_ids, paths, spec, digest)
                    build.run(workers or core_count(), report)
                    store = ImageStore.open(directory)
                elif store.unreadable:
                    store = _try_unreadable_again(directory, store, paths)
    except OSError as error:
        raise UserError(
            f"The image store in {directory} could not be written: {error.strerror or error}. "
            f"It takes {gigabytes(len(image_ids) * math.prod(spec.shape))}. Free some room or "
            "change the folder's permissions, then run the same command: it goes on from there."
        ) from None
    report(len(store), len(store))
    return store, dict(store.unreadable)


def _open_if_current(directory: Path, digest: str) -> ImageStore | None:
    if not (directory / META).exists():
        return None
    try:
        store = ImageStore.open(directory)
    except UserError:  # damaged: it is built again
        return None
    return store if store.digest == digest else None


def _try_unreadable_again(directory: Path, store: ImageStore, paths: list[str]) -> ImageStore:
    """Read unreadable images once more: permissions and network drives do not show in a digest."""
    unreadable = dict(store.unreadable)
    rows = {image_id: row for row, image_id in enumerate(store.image_ids) if image_id in unreadable}
    with open(directory / PIXELS, "r+b") as pixels:
        for image_id, row in rows.items():
            try:
                frame = read_image(paths[row], store.spec)
            except UnreadableImage as error:
                unreadable[image_id] = error.reason
                continue
            write_at(pixels.fileno(), frame, row * frame.nbytes)
            del unreadable[image_id]
        os.fsync(pixels.fileno())
    if unreadable == store.unreadable:
        return store
    index = {"image_ids": store.image_ids, "unreadable": unreadable}
    atomic.write_text(directory / INDEX, json.dumps(index))
    return ImageStore.open(directory)


def _check_ids(image_ids: list[str], paths: list[str]) -> None:
    if not image_ids or len(image_ids) != len(paths):
        raise UserError(
            "An image store needs at least one image, and a path for each id. "
            f"Received: {len(image_ids)} ids and {len(paths)} paths."
        )
    if len(set(image_ids)) < len(image_ids):
        seen: set[str] = set()
        repeated = [i for i in image_ids if i in seen or seen.add(i)]
        raise UserError(
            f"Image ids must differ. Received {len(repeated)} repeated: {_some(repeated)}. "
            "Remove the double rows from the table."
        )


def _some(items: Iterable[str], count: int = 5) -> str:
    items = list(items)
    return ", ".join(items[:count]) + (f" and {len(items) - count} more" if items[count:] else "")
