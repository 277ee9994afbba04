"""What every engine does: all members of a bundle look at one view of a batch of images.

`kderm.ensemble.passes` decides which images are shown in which view; an engine says how a view is
made of frames, and how a member answers. Engines give the same answers up to rounding. Knows no
Keras, so that an exported ensemble answers without it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kderm.ensemble.engines.looks import Turn, resample
from kderm.runtime import halved_batch, is_out_of_memory, release_memory

# A member's word on a batch: probabilities float32 (n, k) and, where the bundle wants them, pooled
# features float32 (n, c).
Word = tuple[np.ndarray, np.ndarray | None]


class Engine:
    """Members that look at pixels on the host; subclasses say how one of them is asked.

    Attributes:
        members: m, their number.
        size: side of their input, pixels.
        batch_size: the most images that a member is shown at a time.
        workers: members or batches that are asked at the same time, each in a thread of its own.
    """

    def __init__(self, members: int, size: int, batch_size: int, workers: int = 1) -> None:
        self.members = members
        self.size = size
        self.batch_size = batch_size
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None

    def look(self, frames: np.ndarray, transform: np.ndarray) -> Any:
        """Pixels (n, s, s, 3), float32 in 0..255, of one view; where the members are."""
        return resample(frames, transform, self.size)

    def turned(self, pixels: Any, rows: np.ndarray, turn: Turn) -> Any:
        """Rows of what `look` gave, turned."""
        return turn.apply(pixels[rows])

    def stacked(self, views: Sequence[Any]) -> Any:
        """What `turned` gave for several views, one behind the other."""
        return np.concatenate(views)

    def ask(self, member: int, pixels: Any, metadata: np.ndarray | None) -> Word:
        """One member's word on up to `batch_size` images."""
        raise NotImplementedError

    def round(self, pixels: Any, metadata: np.ndarray | None) -> list[Word]:
        """Every member's word on all `pixels`, in the bundle's order.

        Args:
            pixels: n images as `turned` or `stacked` gives them.
            metadata: float32 (n, d), encoded, for members that take them.
        """
        while True:
            try:
                return self._round(pixels, metadata)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler: its traceback would keep alive what filled the memory.
            self.batch_size = halved_batch(self.batch_size)
            release_memory()

    def _round(self, pixels: Any, metadata: np.ndarray | None) -> list[Word]:
        starts = range(0, len(pixels), self.batch_size)

        def task(number: int) -> Word:
            member, batch = divmod(number, len(starts))
            rows = slice(starts[batch], starts[batch] + self.batch_size)
            return self.ask(member, pixels[rows], None if metadata is None else metadata[rows])

        words = self._spread(task, self.members * len(starts))
        return [
            self.joined(words[member * len(starts) : (member + 1) * len(starts)])
            for member in range(self.members)
        ]

    def joined(self, words: Sequence[Any]) -> Word:
        """A member's word on several batches, as one."""
        probabilities, features = zip(*words, strict=True)
        seen = None if features[0] is None else np.concatenate(features)
        return np.concatenate(probabilities), seen

    def _spread(self, task: Callable[[int], Any], count: int) -> list[Any]:
        """The results of task(0) ... task(count - 1), up to `workers` of them at a time."""
        if min(self.workers, count) <= 1:
            return [task(number) for number in range(count)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.workers)
        return list(self._pool.map(task, range(count)))


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """`array` with its last row repeated up to `size` rows."""
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
