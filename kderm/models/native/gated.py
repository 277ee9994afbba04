"""Squeeze-and-excite: a feature map times a gate made from its own mean over places."""

from collections.abc import Sequence

import torch

from kderm.models.native import kernels
from kderm.models.native.convolution import Convolution
from kderm.models.native.fused_norm import GatedNormActivation
from kderm.models.native.normalization import Normalization
from kderm.models.native.operations import Operation, Pass, raw


class GatedNormalization:
    """Batch normalisation, activation, and the gate behind it."""

    def __init__(self, norm: Normalization, gate: Sequence[Operation], product: Operation) -> None:
        """Args:
        norm: with its activation.
        gate: operations from its result to the gate (n, c, 1, 1); the first takes the mean.
        product: of the result and the gate.
        """
        self.norm, self.gate, self.product = norm, gate, product
        self.convolutions = [one for one in gate if isinstance(one, Convolution)]

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> the same shape."""
        if not self.norm.learns_fused(run, x):
            z = self.norm(run, x)
            return self.product(run, z, self.squeezed(run, z))
        layer = self.norm.layer
        weights = [
            raw(variable) for one in self.convolutions for variable in one.layer.trainable_variables
        ]
        outputs, mean, variance = GatedNormActivation.apply(
            kernels.as_rows(x),
            *self.norm.affine(),
            layer.epsilon,
            self.norm.name,
            lambda pooled: self.excited(run, pooled),
            *weights,
        )
        run.moved.append((layer, mean, variance))
        return outputs

    def squeezed(self, run: Pass, z: torch.Tensor) -> torch.Tensor:
        """The gate of a feature map."""
        for operation in self.gate:
            z = operation(run, z)
        return z

    def excited(self, run: Pass, pooled: torch.Tensor) -> torch.Tensor:
        """The gate (n, c) of a mean (n, c)."""
        gate = pooled[:, :, None, None]
        for operation in self.convolutions:
            gate = operation(run, gate)
        return gate.flatten(1)
