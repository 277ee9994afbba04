"""Members' answers view by view, kept on disk: what the selection of views and members weighs.

Runs each member over images that it never saw, once for every distinct view, and remembers how long
a pass took. What was finished before an interruption, or for other view sets, is not done again.
"""

import hashlib
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kderm.atomic import atomic_path
from kderm.data.views import VIEWS, view_transforms
from kderm.models.forward import Forward


@dataclass(frozen=True)
class ViewPool:
    """The distinct views of several view sets; the plain one is in all of them, and run once.

    Attributes:
        transforms: float32 (v, 2, 3), as `Warp` takes them; the plain view first.
        names: v names, such as "d4 3" for the fourth view of d4.
        sets: view set -> the positions of its views in `transforms`.
    """

    transforms: np.ndarray
    names: tuple[str, ...]
    sets: dict[str, tuple[int, ...]]

    @property
    def keys(self) -> tuple[str, ...]:
        """A key a view, the same for the same transform."""
        return tuple(_key(transform) for transform in self.transforms)


@dataclass(frozen=True)
class ViewAnswers:
    """One member's answers.

    Attributes:
        probabilities: float32 (n, v, k).
        seconds: of one view of one image, the median over batches on the machine that ran it.
    """

    probabilities: np.ndarray
    seconds: float


def view_pool(names: Sequence[str] | None, frame: tuple[int, int]) -> ViewPool:
    """The distinct views of the view sets `names`, by default of all; "none" is always among them.

    Args:
        names: keys of `kderm.data.views.VIEWS`.
        frame: (H, W) of the stored frame.

    Raises:
        UserError: no such view set.
    """
    wanted = dict.fromkeys(["none", *(VIEWS if names is None else names)])
    pool: dict[str, tuple[str, np.ndarray]] = {}
    sets = {}
    for name in wanted:
        keys = []
        for number, transform in enumerate(view_transforms(name, frame)):
            key = _key(transform)
            pool.setdefault(key, (f"{name} {number}", transform))
            keys.append(key)
        sets[name] = keys
    position = {key: number for number, key in enumerate(pool)}
    return ViewPool(
        np.stack([transform for _, transform in pool.values()]),
        tuple(name for name, _ in pool.values()),
        {name: tuple(position[key] for key in keys) for name, keys in sets.items()},
    )


def view_answers(
    path: Path,
    member_sha256: str,
    image_ids: Sequence[str],
    pool: ViewPool,
    forward: Callable[[], Forward],
    chunks: Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]],
    progress: Callable[[int], None],
) -> ViewAnswers:
    """The member's answers to all views of the pool, from `path` as far as they are there.

    Args:
        path: npz where they are kept.
        member_sha256: of the member; answers of another one are not used.
        image_ids: the n images, in the order of the frames.
        pool: the views.
        forward: loads the member; called only if something is missing.
        chunks: gives the frames, uint8 (b, H, W, 3), with their encoded metadata (b, d) or None.
        progress: called with the number of images done.
    """
    known = _read(path, member_sha256, image_ids)
    missing = [number for number, key in enumerate(pool.keys) if key not in known.views]
    if missing:
        found, seconds = _run(forward(), chunks(), pool.transforms[missing], progress)
        for place, number in enumerate(missing):
            known.views[pool.keys[number]] = found[:, place]
        known = _Kept(known.views, min(seconds, known.seconds))
        _write(path, member_sha256, image_ids, known)
    progress(len(image_ids))
    probabilities = np.stack([known.views[key] for key in pool.keys], axis=1)
    return ViewAnswers(probabilities, known.seconds)


@dataclass(frozen=True)
class _Kept:
    views: dict[str, np.ndarray]  # key of a view -> float32 (n, k)
    seconds: float


def _run(
    forward: Forward,
    chunks: Iterable[tuple[np.ndarray, np.ndarray | None]],
    transforms: np.ndarray,
    progress: Callable[[int], None],
) -> tuple[np.ndarray, float]:
    """float32 (n, v, k), and the median of the chunks' seconds a view of an image."""
    found, seconds, done = [], [], 0
    for frames, metadata in chunks:
        began = time.perf_counter()
        found.append(forward(frames, transforms, metadata=metadata))
        # The last batch is padded, so its passes cost what those of a full one do.
        shown = len(transforms) * max(len(frames), forward.batch_size)
        seconds.append((time.perf_counter() - began) / shown)
        done += len(frames)
        progress(done)
    # The first batch also warms up (and, on compiled backends, compiles).
    return np.concatenate(found), float(np.median(seconds[1:] or seconds))


def _read(path: Path, member_sha256: str, image_ids: Sequence[str]) -> _Kept:
    nothing = _Kept({}, float("inf"))
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids = {name: row for row, name in enumerate(stored["image_ids"].tolist())}
            if str(stored["member_sha256"]) != member_sha256 or not set(image_ids) <= set(ids):
                return nothing
            rows = [ids[name] for name in image_ids]
            views = zip(stored["keys"].tolist(), stored["probabilities"], strict=True)
            return _Kept({key: answers[rows] for key, answers in views}, float(stored["seconds"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return nothing  # not there, or cut off: done again


def _write(path: Path, member_sha256: str, image_ids: Sequence[str], kept: _Kept) -> None:
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            member_sha256=np.array(member_sha256),
            image_ids=np.array(list(image_ids)),
            keys=np.array(list(kept.views)),
            probabilities=np.stack(list(kept.views.values())),  # (v, n, k)
            seconds=np.array(kept.seconds),
        )


def _key(transform: np.ndarray) -> str:
    # Rounded, and -0 made 0: two view sets reach the same view by different products.
    plain = np.round(transform.astype(np.float64), 6) + 0.0
    return hashlib.sha256(plain.tobytes()).hexdigest()[:16]
