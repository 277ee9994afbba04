"""Training batches from the image store: the hand-over from the data room to Keras.

Which image comes when, and how each is changed, depends on (run seed, fold, epoch, batch) alone, so
an interrupted fold continues as if nothing had happened, and fold 3 alone equals fold 3 of a run.
"""

from collections.abc import Mapping

import keras
import numpy as np

from kderm.data.augment import draw_colours, draw_transforms
from kderm.runtime import rng_for


class TrainBatches(keras.utils.PyDataset):
    """The augmented batches of the epoch in `epoch` (0-based), for `fit(..., shuffle=False)`.

    A batch is `((images, transforms, colours), labels, weights)`: uint8 (n, H, W, 3), float32
    (n, 2, 3), float32 (n, 3, 4), int32 (n,) and float32 (n,). The images are as stored: `Warp`
    applies the drawn transforms and colours on the device. The last, smaller batch of an epoch is
    dropped, so that compiled backends see one shape; each epoch is shuffled anew.
    """

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        *,
        batch_size: int,
        augment: Mapping[str, float],
        seed: int,
        fold: int,
    ):
        """Args:
        images: uint8 (N, H, W, 3), the whole store.
        rows: int (n,), the store's rows to train on.
        labels: int (n,), class indices of `rows`.
        weights: float (n,), sample weights of `rows`.
        batch_size: images a batch; a set smaller than this makes one batch.
        augment: keyword arguments of `draw_transforms` and `draw_colours`.
        seed: the run's seed.
        fold: the held-out fold.
        """
        super().__init__()
        self.images = images
        self.rows = np.asarray(rows, dtype=np.int64)
        self.labels = np.asarray(labels, dtype=np.int32)
        self.weights = np.asarray(weights, dtype=np.float32)
        self.batch_size = min(batch_size, len(self.rows))
        geometry = ("flip", "rotation", "zoom", "shift")
        self.geometry = {key: augment[key] for key in geometry}
        self.colour = {key: value for key, value in augment.items() if key not in geometry}
        self.seed = seed
        self.fold = fold
        self.epoch = 0
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of 0..n-1 in which `epoch` visits the training images."""
        if self._order is None or self._order[0] != epoch:
            rng = rng_for(self.seed, self.fold, "shuffle", epoch)
            self._order = (epoch, rng.permutation(len(self.rows)))
        return self._order[1]

    def __getitem__(self, batch: int) -> tuple:
        chosen = self.order(self.epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        rng = rng_for(self.seed, self.fold, "augment", self.epoch, batch)
        frame = self.images.shape[1:3]
        transforms = draw_transforms(rng, len(chosen), frame, **self.geometry)
        colours = draw_colours(rng, len(chosen), **self.colour)
        images = np.ascontiguousarray(self.images[self.rows[chosen]])
        return (images, transforms, colours), self.labels[chosen], self.weights[chosen]


class RowsOf:
    """The given rows of the store as a sequence that is read slice by slice, never whole."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        """Args:
        images: uint8 (N, H, W, 3), the whole store.
        rows: int (n,).
        """
        self.images = images
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        return self.images[self.rows[chosen]]
