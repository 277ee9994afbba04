"""Batch normalisation with the activation behind it, and the moving statistics of a whole pass."""

from collections import Counter, defaultdict

import keras
import torch
from torch.nn import functional

from kderm.models.native import kernels
from kderm.models.native.fused_norm import NormActivation
from kderm.models.native.operations import (
    NAMES,
    Activation,
    Pass,
    UnknownSetting,
    compute_dtype,
    raw,
)


class Normalization:
    """BatchNormalization over the channels, in float32 statistics, then an activation."""

    def __init__(
        self, layer: keras.layers.BatchNormalization, rank: int, activation: Activation | None
    ) -> None:
        """Args:
        layer: the layer.
        rank: number of axes of its input.
        activation: applied to what comes out.
        """
        renorm = getattr(layer, "renorm", False)  # older Keras has none
        last = layer.axis in (-1, rank - 1)
        exact = layer.variable_dtype == "float32" and layer.compute_dtype != "float64"
        if renorm or layer.synchronized or not exact or not last:
            raise UnknownSetting
        self.layer, self.activation = layer, activation
        self.name = NAMES.get(activation)
        self.is_known = activation in NAMES

    def affine(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Gamma and beta, or None where the layer has none."""
        layer = self.layer
        return (
            raw(layer.gamma) if layer.scale else None,
            raw(layer.beta) if layer.center else None,
        )

    def learns_fused(self, run: Pass, x: torch.Tensor) -> bool:
        """Whether the layer learns in this pass and the kernels can do it."""
        learns = run.training and self.layer.trainable and self.is_known
        several = learns and x.numel() > x.shape[1]
        return several and self.layer.compute_dtype == "float32" and kernels.fits(x)

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        """(n, c, ...) -> the same shape."""
        if self.learns_fused(run, x):
            outputs, mean, variance = NormActivation.apply(
                kernels.as_rows(x), *self.affine(), self.layer.epsilon, self.name
            )
            run.moved.append((self.layer, mean, variance))
            return outputs
        outputs = self.normalized(run, x.to(compute_dtype(self.layer)))
        return outputs if self.activation is None else self.activation(outputs)

    def normalized(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        """The layer without the activation."""
        layer = self.layer
        gamma, beta = self.affine()
        mean, variance = raw(layer.moving_mean), raw(layer.moving_variance)
        last = x if x.ndim < 3 or x.ndim == 4 else x.movedim(-1, 1)
        if not run.training or not layer.trainable:
            outputs = functional.batch_norm(
                last, mean, variance, gamma, beta, False, 0.0, layer.epsilon
            )
        elif last.numel() > last.shape[1]:
            # With momentum 1, torch leaves the batch's own statistics in these two.
            mean, variance = torch.zeros_like(mean), torch.ones_like(variance)
            outputs = functional.batch_norm(
                last, mean, variance, gamma, beta, True, 1.0, layer.epsilon
            )
            count = last.numel() // last.shape[1]
            run.moved.append((layer, mean, variance * ((count - 1) / count)))
        else:  # torch refuses to learn from one value a channel
            outputs = self._of_one_value(run, last, gamma, beta)
        return outputs if last is x else outputs.movedim(1, -1)

    def _of_one_value(
        self, run: Pass, x: torch.Tensor, gamma: torch.Tensor | None, beta: torch.Tensor | None
    ) -> torch.Tensor:
        mean = x.flatten().to(torch.float32)
        run.moved.append((self.layer, mean.detach(), torch.zeros_like(mean)))
        outputs = x - mean.view_as(x)
        if gamma is not None:
            outputs = outputs * (gamma * self.layer.epsilon**-0.5).view_as(x)
        return (outputs if beta is None else outputs + beta.view_as(x)).to(x.dtype)


def move_statistics(run: Pass) -> None:
    """Move the statistics of all layers that learnt in a pass towards those of the batch."""
    groups, times = defaultdict(lambda: ([], [])), Counter()
    for layer, mean, variance in run.moved:
        times[id(layer)] += 1  # a layer that is called twice moves twice, one move after the other
        moving, batch = groups[times[id(layer)], float(layer.momentum)]
        moving += [raw(layer.moving_mean), raw(layer.moving_variance)]
        batch += [mean, variance]
    with torch.no_grad():
        for (_, momentum), (moving, batch) in groups.items():
            torch._foreach_lerp_(moving, batch, 1.0 - momentum)
