"""Training batches from the image store: the hand-over from the data room to Keras.

Which image comes when, and how each is changed, depends on (run seed, fold, epoch, batch) alone, so
an interrupted fold continues as if nothing had happened, and fold 3 alone equals fold 3 of a run.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from kderm.data.augment import (
    check_mixing,
    draw_colours,
    draw_effects,
    draw_transforms,
    mix_rows,
    uses_effects,
)
from kderm.data.balance import BalancePlan
from kderm.data.device_frames import FrameSource
from kderm.data.rand_augment import rand_augment
from kderm.runtime import rng_for

if TYPE_CHECKING:
    from kderm.data.metadata import MetadataSpec


class TrainBatches(keras.utils.PyDataset):
    """The augmented batches of the epoch in `epoch` (0-based), for `fit(..., shuffle=False)`.

    A batch is (inputs, targets). Inputs, by the names of `kderm.models.forward.warped`:
        images: uint8 (n, H, W, 3), as stored (on torch a tensor where `device_frames` gave one);
        transforms: float32 (n, 2, 3), colours: float32 (n, 3, 4), for the layer `Warp`;
        effects: float32 (n, e), for the layer `Effects`, where any is switched on;
        metadata: float32 (n, D), where there is any.
    Targets are float32 (n, k): the share of each class in the image times its class weight.

    What comes in which order is the plan's matter. The last, smaller batch of an epoch is dropped,
    so that compiled backends see one shape.
    """

    def __init__(
        self,
        images: FrameSource,
        rows: np.ndarray,
        labels: np.ndarray,
        *,
        classes: int,
        plan: BalancePlan,
        batch_size: int,
        augment: Mapping[str, float],
        seed: int,
        fold: int,
        shares: np.ndarray | None = None,
        metadata: np.ndarray | None = None,
        metadata_spec: "MetadataSpec | None" = None,
        metadata_dropout: float = 0.0,
    ):
        """Args:
        images: uint8 (N, H, W, 3), the whole store; see `kderm.data.device_frames`.
        rows: int (n,), the store's rows to train on.
        labels: int (n,), class indices of `rows`.
        classes: number of classes k.
        plan: class weights and order, made from `labels`.
        batch_size: images a batch; an epoch smaller than this makes one batch.
        augment: keyword arguments of `draw_transforms`, `draw_colours` and `draw_effects`, and
            `randaugment` with its magnitude: the config's section.
        seed: the run's seed.
        fold: the held-out fold.
        shares: float32 (n, k), the share of each class in each image; None: all is its label's.
        metadata: float32 (n, D), encoded columns of `rows`.
        metadata_spec: how they were encoded; needed with `metadata`.
        metadata_dropout: share of images that each column is hidden from.
        """
        super().__init__()
        self.images = images
        self.rows = np.asarray(rows, dtype=np.int64)
        self.plan = plan
        own = np.eye(classes, dtype=np.float32)[labels] if shares is None else shares
        self.targets = own * plan.weights
        self.batch_size = min(batch_size, plan.length)
        self.geometry = _amounts_for(draw_transforms, augment)
        self.colour = _amounts_for(draw_colours, augment)
        self.effects = _amounts_for(draw_effects, augment) if uses_effects(augment) else None
        self.operations = augment["randaugment"]
        self.magnitude = augment["randaugment_magnitude"]
        check_mixing(augment["mixup"], augment["cutmix"])
        self.seed = seed
        self.fold = fold
        self.metadata = metadata
        self.metadata_spec = metadata_spec
        self.metadata_dropout = metadata_dropout
        self.epoch = 0
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return self.plan.length // self.batch_size

    def order(self, epoch: int) -> np.ndarray:
        """The positions in `rows` that `epoch` visits, int64 (plan.length,)."""
        if self._order is None or self._order[0] != epoch:
            rng = rng_for(self.seed, self.fold, "shuffle", epoch)
            self._order = (epoch, self.plan.draw(rng))
        return self._order[1]

    def __getitem__(self, batch: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        chosen = self.order(self.epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        targets = self.targets[chosen]
        inputs = {
            "images": self.images[self.rows[chosen]],
            **self._draws(batch, len(chosen)),
        }
        if self.metadata is not None:
            inputs["metadata"] = self.metadata_spec.hide(
                self.metadata[chosen], self._rng("metadata", batch), self.metadata_dropout
            )
        if self.effects is not None:
            targets = mix_rows(targets, inputs["effects"])
            if self.metadata is not None:
                inputs["metadata"] = mix_rows(inputs["metadata"], inputs["effects"])
        return inputs, targets

    def _draws(self, batch: int, n: int) -> dict[str, np.ndarray]:
        """transforms, colours and, where any is switched on, effects."""
        rng = self._rng("augment", batch)
        frame = self.images.shape[1:3]
        transforms = draw_transforms(rng, n, frame, **self.geometry)
        colours = draw_colours(rng, n, **self.colour)
        if self.effects is None:
            return {"transforms": transforms, "colours": colours}
        # Generators of their own: switching effects on leaves the draws above as they were.
        effects = draw_effects(self._rng("effects", batch), n, **self.effects)
        if self.operations:
            transforms, colours, effects = rand_augment(
                self._rng("randaugment", batch),
                transforms,
                colours,
                effects,
                operations=self.operations,
                magnitude=self.magnitude,
            )
        return {"transforms": transforms, "colours": colours, "effects": effects}

    def _rng(self, purpose: str, batch: int) -> np.random.Generator:
        return rng_for(self.seed, self.fold, purpose, self.epoch, batch)


def _amounts_for(draw: Callable, augment: Mapping[str, float]) -> dict[str, float]:
    """The amounts that a drawing function takes by name."""
    parameters = inspect.signature(draw).parameters.values()
    return {item.name: augment[item.name] for item in parameters if item.kind is item.KEYWORD_ONLY}


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
