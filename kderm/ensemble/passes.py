"""Members x views over a batch of frames, view by view, and which images are done early.

Of few images several views make one batch (`kderm.data.views.view_rounds`).
Every member looks at every image at least once, in the plain view. With a tolerance, images whose
answer further views would hardly move leave after each round (`kderm.ensemble.early_exit`).
Independent of the engine, and of what the answers are used for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kderm.data.views import view_rounds
from kderm.ensemble.early_exit import settled
from kderm.ensemble.engines.engine import Engine
from kderm.ensemble.engines.looks import Look, looks

# Pixels of one view that are held together.
MAX_PIXEL_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Passed:
    """What the members said.

    Attributes:
        probabilities: float32 (n, m, v, k); only the first `rounds` views of an image are answers.
        rounds: int (n,), views in which every member saw the image.
        features: for each member float32 (n, c), of the plain view; None if they were not asked.
    """

    probabilities: np.ndarray
    rounds: np.ndarray
    features: list[np.ndarray] | None

    @property
    def passes(self) -> np.ndarray:
        """int (n,): forward passes that each image cost."""
        return self.rounds * self.probabilities.shape[1]


@dataclass(frozen=True)
class Exit:
    """When an image is done early.

    Attributes:
        tolerance: standard error, of a probability, that is small enough; 0: never.
        malignant: positions of the malignant classes.
    """

    tolerance: float
    malignant: tuple[int, ...]


class Passes:
    """Runs an engine over frames."""

    def __init__(self, engine: Engine, transforms: np.ndarray, classes: int, leave: Exit) -> None:
        """Args:
        engine: the members.
        transforms: float32 (v, 2, 3), the views; the plain one first.
        classes: k.
        leave: when images leave early.
        """
        self._engine = engine
        self._transforms = transforms
        self._looks = looks(transforms)
        self._classes = classes
        self._leave = leave

    def __call__(
        self,
        frames: np.ndarray,
        metadata: np.ndarray | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Passed:
        """The members' answers.

        Args:
            frames: uint8 (n, H, W, 3).
            metadata: float32 (n, d), encoded, for members that take them.
            progress: called with the number of images done.
        """
        shape = (len(frames), self._engine.members, len(self._looks), self._classes)
        found = Passed(np.zeros(shape, np.float32), np.zeros(len(frames), np.int64), None)
        features: list[list[np.ndarray]] = []
        batch = self._engine.batch_size
        # Whole batches: an accelerator pads what is left of one at the end of each block.
        block = batch * max(1, MAX_PIXEL_BYTES // (12 * self._engine.size**2) // batch)
        for start in range(0, len(frames), block):
            rows = slice(start, start + block)
            part = Passed(found.probabilities[rows], found.rounds[rows], None)
            known = None if metadata is None else metadata[rows]
            seen = self._block(frames[rows], known, part)
            if seen is not None:
                features.append(seen)
            progress(min(rows.stop, len(frames)))
        if not features:
            return found
        joined = [np.concatenate(own) for own in zip(*features, strict=True)]
        return Passed(found.probabilities, found.rounds, joined)

    def _block(
        self, frames: np.ndarray, metadata: np.ndarray | None, into: Passed
    ) -> list[np.ndarray] | None:
        """Fill `into`; for each member the features of the plain view, if there are any."""
        engine, active, features = self._engine, np.arange(len(frames)), None
        cut: dict[int, tuple[np.ndarray, object]] = {}  # base -> its rows, their pixels
        for views in self._rounds(len(frames)):
            shown = [self._pixels(view, frames, active, cut) for view in views]
            known = None if metadata is None else np.tile(metadata[active], (len(views), 1))
            words = engine.round(shown[0] if len(shown) == 1 else engine.stacked(shown), known)
            said = np.stack([said for said, _ in words], axis=1)  # (views x n, m, k)
            for view, answers in zip(views, np.split(said, len(views)), strict=True):
                into.probabilities[active, :, view] = answers
            into.rounds[active] = views[-1] + 1
            if 0 in views and words[0][1] is not None:
                features = [own[: len(active)] for _, own in words]
            active = self._staying(into, active, views[-1] + 1)
            if not len(active):
                break
        return features

    def _rounds(self, images: int) -> list[range]:
        """Views that are shown together; one by one if images may leave."""
        room = 1 if self._leave.tolerance else self._engine.batch_size
        return view_rounds(images, len(self._looks), room)

    def _pixels(
        self,
        view: int,
        frames: np.ndarray,
        active: np.ndarray,
        cut: dict[int, tuple[np.ndarray, object]],
    ) -> object:
        """What is shown of the active frames in one view; keeps in `cut` what others need."""
        base, turn = self._looks[view].base, self._looks[view].turn
        if base not in cut:
            cut[base] = active, self._engine.look(frames[active], self._transforms[base])
        rows, pixels = cut[base]
        if not _is_used_after(self._looks, base, view):
            del cut[base]
        return self._engine.turned(pixels, np.searchsorted(rows, active), turn)

    def _staying(self, found: Passed, active: np.ndarray, rounds: int) -> np.ndarray:
        """The images that need more views."""
        if not self._leave.tolerance or rounds == len(self._looks):
            return active
        answers = found.probabilities[active, :, :rounds]
        left = 1 - rounds / len(self._looks)
        leaves = settled(answers, self._leave.malignant, self._leave.tolerance, left)
        return active[~leaves]


def _is_used_after(all_looks: list[Look], base: int, number: int) -> bool:
    return any(look.base == base for look in all_looks[number + 1 :])
