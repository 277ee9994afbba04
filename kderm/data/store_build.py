"""Writing an image store: chunks decoded in threads, logged when they are on the disk.

The writing half of `kderm.data.store`, which describes the folder and is the door to both halves.
Whoever runs a build holds the folder's lock.
"""

import fcntl
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from kderm import atomic
from kderm.data.images import DECODER_VERSION, ImageSpec, UnreadableImage, read_image
from kderm.errors import UserError

Progress = Callable[[int, int], None]

PIXELS, INDEX, META = "pixels.u8", "index.json", "meta.json"
_PROGRESS, _LOCK = "progress.jsonl", ".lock"
_CHUNK_BYTES = 8 << 20
_CHUNK_IMAGES = 256


class StoreBuild:
    """One store in the making; its caller holds the lock."""

    def __init__(
        self, directory: Path, image_ids: list[str], paths: list[str], spec: ImageSpec, digest: str
    ) -> None:
        self.directory, self.image_ids, self.paths = directory, image_ids, paths
        self.spec, self.digest = spec, digest
        self.frame_bytes = math.prod(spec.shape)
        self.chunk_size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // self.frame_bytes))

    def run(self, workers: int, report: Progress) -> None:
        """Decode every chunk that is not on the disk yet, then seal the store."""
        done = self._resume()
        n = len(self.image_ids)
        starts = [start for start in range(0, n, self.chunk_size) if start not in done]
        self._check_room(sum(self._count(start) for start in starts))
        finished = sum(self._count(start) for start in done)
        report(finished, n)
        with (
            open(self.directory / PIXELS, "r+b") as pixels,
            open(self.directory / _PROGRESS, "a", encoding="utf-8") as log,
            closing(self._decode(starts, pixels.fileno(), workers)) as chunks,
        ):  # `closing`: after an error no thread may write once the file is closed
            for start, unreadable in chunks:
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
        size = len(self.image_ids) * self.frame_bytes
        header = {"digest": self.digest, "chunk_size": self.chunk_size}
        pixels, progress = self.directory / PIXELS, self.directory / _PROGRESS
        done: dict[int, dict[str, str]] = {}
        lines = _whole_json_lines(progress)
        if lines and lines[0] == header and pixels.exists() and pixels.stat().st_size == size:
            done = {line["start"]: line["unreadable"] for line in lines[1:]}
        else:
            # Removed, not overwritten: a process that still maps the old pixels keeps them.
            for name in (META, INDEX, _PROGRESS, PIXELS):
                (self.directory / name).unlink(missing_ok=True)
            with open(pixels, "wb") as handle:
                handle.truncate(size)
        # Written afresh, so that half a line left by a kill is gone before more are appended.
        entries = [header, *({"start": s, "unreadable": bad} for s, bad in done.items())]
        atomic.write_text(progress, "".join(json.dumps(entry) + "\n" for entry in entries))
        return done

    def _check_room(self, rows: int) -> None:
        needed = rows * self.frame_bytes
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UserError(
                f"The image store needs {gigabytes(needed)} more in {self.directory}. Received: a "
                f"disk with {gigabytes(free)} free. Free some room, or store smaller images "
                "(image.stored_height)."
            )

    def _decode(
        self, starts: list[int], descriptor: int, workers: int
    ) -> Generator[tuple[int, dict[str, str]], None, None]:
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
        write_at(descriptor, frames, start * self.frame_bytes)
        return unreadable

    def _count(self, start: int) -> int:
        return min(self.chunk_size, len(self.image_ids) - start)

    def _seal(self, unreadable: dict[str, str]) -> None:
        index = {"image_ids": self.image_ids, "unreadable": unreadable}
        atomic.write_text(self.directory / INDEX, json.dumps(index))
        meta = {
            "digest": self.digest,
            "spec": self.spec.to_dict(),
            "n": len(self.image_ids),
            "decoder": DECODER_VERSION,
        }
        atomic.write_json(self.directory / META, meta)
        forget_progress(self.directory)


def was_cut_short(directory: Path) -> bool:
    """Whether a build was killed between sealing the store and forgetting its progress."""
    return (directory / _PROGRESS).exists()


def forget_progress(directory: Path) -> None:
    """Remove the log of a build that is finished."""
    (directory / _PROGRESS).unlink(missing_ok=True)


@contextmanager
def only_builder(directory: Path, n: int, report: Progress) -> Iterator[None]:
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


def write_at(descriptor: int, frames: np.ndarray, position: int) -> None:
    """Write all bytes of `frames` at a byte position of a file."""
    view = memoryview(np.ascontiguousarray(frames)).cast("B")
    while view:  # the kernel may take less than it is given
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written


def gigabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
