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

import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from kderm import atomic
from kderm.data.images import DECODER_VERSION, ImageSpec, UnreadableImage, read_image
from kderm.errors import UserError

Progress = Callable[[int, int], None]

_PIXELS, _INDEX, _META = "pixels.u8", "index.json", "meta.json"
_PROGRESS, _LOCK = "progress.jsonl", ".lock"
_CHUNK_BYTES = 8 << 20
_CHUNK_IMAGES = 256


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
            meta = json.loads((directory / _META).read_text(encoding="utf-8"))
            index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
            spec = ImageSpec.from_dict(meta["spec"])
            shape = (len(index["image_ids"]), *spec.shape)
            size = (directory / _PIXELS).stat().st_size
            if shape[0] != meta["n"] or size != _byte_count(*shape):
                raise ValueError(f"{size} bytes of pixels for an index of {shape[0]} images")
            images = np.memmap(directory / _PIXELS, dtype=np.uint8, mode="r", shape=shape)
        except FileNotFoundError as error:
            raise UserError(
                f"Expected a whole image store in {directory}. Received: a folder without "
                f"{Path(error.filename).name}. Build it with: python run.py prepare"
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
                f"{len(bad)} image(s) cannot be read: "
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
            status = os.stat(path)
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
    _check_ids(image_ids, paths)
    report = progress or (lambda done, total: None)
    digest = store_digest(image_ids, paths, spec)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _only_builder(directory, len(image_ids), report):
            store = _open_if_current(directory, digest)
            if store is None:
                build = _Build(directory, image_ids, [Path(path) for path in paths], spec, digest)
                build.run(workers or _core_count(), report)
                store = ImageStore.open(directory)
            elif store.unreadable:
                store = _try_unreadable_again(directory, store, paths)
    except OSError as error:
        raise UserError(
            f"The image store in {directory} could not be written: {error.strerror or error}. "
            f"It takes {_gigabytes(_byte_count(len(image_ids), *spec.shape))}. Free some room or "
            "change the folder's permissions, then run the same command: it goes on from there."
        ) from None
    report(len(store), len(store))
    return store, dict(store.unreadable)


class _Build:
    """One store in the making; its caller holds the lock."""

    def __init__(
        self, directory: Path, image_ids: list[str], paths: list[Path], spec: ImageSpec, digest: str
    ) -> None:
        self.directory, self.image_ids, self.paths = directory, image_ids, paths
        self.spec, self.digest = spec, digest
        self.frame_bytes = _byte_count(1, *spec.shape)
        self.chunk_size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // self.frame_bytes))

    def run(self, workers: int, report: Progress) -> None:
        """Decode every chunk that is not on the disk yet, then seal the store."""
        done = self._resume()
        n = len(self.image_ids)
        starts = [start for start in range(0, n, self.chunk_size) if start not in done]
        self._check_room(n - self.chunk_size * len(starts) if starts else n)
        finished = sum(self._count(start) for start in done)
        report(finished, n)
        with (
            open(self.directory / _PIXELS, "r+b") as pixels,
            open(self.directory / _PROGRESS, "a", encoding="utf-8") as log,
        ):
            for start, unreadable in self._decode(starts, pixels.fileno(), workers):
                os.fsync(pixels.fileno())
                log.write(json.dumps({"start": start, "unreadable": unreadable}) + "\n")
                log.flush()
                done[start] = unreadable
                finished += self._count(start)
                report(finished, n)
        reasons = {image_id: reason for part in done.values() for image_id, reason in part.items()}
        self._seal({i: reasons[i] for i in self.image_ids if i in reasons})

    def _resume(self) -> dict[int, dict[str, str]]:
        """First row of each chunk that is on the disk -> its unreadable images; else start anew."""
        size = _byte_count(len(self.image_ids), *self.spec.shape)
        header = {"digest": self.digest, "chunk_size": self.chunk_size}
        pixels, progress = self.directory / _PIXELS, self.directory / _PROGRESS
        done: dict[int, dict[str, str]] = {}
        lines = _whole_json_lines(progress)
        if lines and lines[0] == header and pixels.exists() and pixels.stat().st_size == size:
            done = {line["start"]: line["unreadable"] for line in lines[1:]}
        else:
            # Removed, not overwritten: a process that still maps the old pixels keeps them.
            for name in (_META, _INDEX, _PROGRESS, _PIXELS):
                (self.directory / name).unlink(missing_ok=True)
            with open(pixels, "wb") as handle:
                handle.truncate(size)
        # Written afresh, so that half a line left by a kill is gone before more are appended.
        entries = [header, *({"start": s, "unreadable": bad} for s, bad in done.items())]
        atomic.write_text(progress, "".join(json.dumps(entry) + "\n" for entry in entries))
        return done

    def _check_room(self, rows_done: int) -> None:
        needed = _byte_count(len(self.image_ids) - rows_done, *self.spec.shape)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"The image store needs {_gigabytes(needed)} more in {self.directory}. Received: a "
                f"disk with {_gigabytes(free)} free. Free some room, or store smaller images "
                "(image.stored_height)."
            )

    def _decode(
        self, starts: list[int], descriptor: int, workers: int
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (first row, unreadable images) as chunks reach the file, in any order."""
        waiting = iter(starts)
        stop = threading.Event()
        running: dict[Future, int] = {}
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            try:
                while True:
                    # Two chunks a worker at most, so that memory stays flat.
                    while len(running) < 2 * workers and (start := next(waiting, None)) is not None:
                        running[pool.submit(self._decode_chunk, start, descriptor, stop)] = start
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        yield running.pop(future), future.result()
            finally:  # after an error or Ctrl-C: leave at the next image, not after two chunks
                stop.set()

    def _decode_chunk(self, start: int, descriptor: int, stop: threading.Event) -> dict[str, str]:
        frames = np.zeros((self._count(start), *self.spec.shape), np.uint8)
        unreadable = {}
        for offset in range(len(frames)):
            if stop.is_set():
                return unreadable
            try:
                frames[offset] = read_image(self.paths[start + offset], self.spec)
            except UnreadableImage as error:
                unreadable[self.image_ids[start + offset]] = error.reason
        # Not through a memory map: there a full disk is a SIGBUS, here it is an OSError.
        _write_at(descriptor, frames, start * self.frame_bytes)
        return unreadable

    def _count(self, start: int) -> int:
        return min(self.chunk_size, len(self.image_ids) - start)

    def _seal(self, unreadable: dict[str, str]) -> None:
        index = {"image_ids": self.image_ids, "unreadable": unreadable}
        atomic.write_text(self.directory / _INDEX, json.dumps(index))
        meta = {
            "digest": self.digest,
            "spec": self.spec.to_dict(),
            "n": len(self.image_ids),
            "decoder": DECODER_VERSION,
        }
        atomic.write_json(self.directory / _META, meta)
        (self.directory / _PROGRESS).unlink()


def _open_if_current(directory: Path, digest: str) -> ImageStore | None:
    if not (directory / _META).exists():
        return None
    try:
        store = ImageStore.open(directory)
    except UserError:  # damaged: it is built again
        return None
    return store if store.digest == digest else None


def _try_unreadable_again(
    directory: Path, store: ImageStore, paths: Sequence[str | Path]
) -> ImageStore:
    """Read unreadable images once more: permissions and network drives do not show in a digest."""
    unreadable = dict(store.unreadable)
    rows = {image_id: row for row, image_id in enumerate(store.image_ids) if image_id in unreadable}
    with open(directory / _PIXELS, "r+b") as pixels:
        for image_id, row in rows.items():
            try:
                frame = read_image(paths[row], store.spec)
            except UnreadableImage as error:
                unreadable[image_id] = error.reason
                continue
            _write_at(pixels.fileno(), frame, row * frame.nbytes)
            del unreadable[image_id]
        os.fsync(pixels.fileno())
    if unreadable == store.unreadable:
        return store
    index = {"image_ids": store.image_ids, "unreadable": unreadable}
    atomic.write_text(directory / _INDEX, json.dumps(index))
    return ImageStore.open(directory)


@contextmanager
def _only_builder(directory: Path, n: int, report: Progress) -> Iterator[None]:
    """Hold the folder's lock; while another process builds, wait and report its progress."""
    with open(directory / _LOCK, "a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lines = _whole_json_lines(directory / _PROGRESS)
                if lines:
                    report(min(n, lines[0]["chunk_size"] * (len(lines) - 1)), n)
                time.sleep(0.2)
        yield  # closing the file gives the lock back


def _whole_json_lines(path: Path) -> list[dict]:
    """The lines of a log up to the first that a kill left unfinished."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except ValueError:
            break
    return values


def _check_ids(image_ids: list[str], paths: Sequence[str | Path]) -> None:
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


def _write_at(descriptor: int, frames: np.ndarray, position: int) -> None:
    view = memoryview(np.ascontiguousarray(frames)).cast("B")
    while view:  # the kernel may take less than it is given
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def _byte_count(*shape: int) -> int:
    count = 1
    for length in shape:  # Python integers: no overflow
        count *= length
    return count


def _core_count() -> int:
    # The cores this process may use: a container or a cluster job has fewer than the machine.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _some(items: Iterable[str], count: int = 5) -> str:
    items = list(items)
    return ", ".join(items[:count]) + (f" and {len(items) - count} more" if items[count:] else "")


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
