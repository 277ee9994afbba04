"""The plan of a pass that learns nothing: batch normalisation is part of the convolution before it.

Nothing here asks for gradients, so activations, sums and gates are written over what they are made
from. Folded weights are made anew when one of the layers' variables has changed.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from kderm.models.native import kernels
from kderm.models.native.convolution import Convolution
from kderm.models.native.gated import GatedNormalization
from kderm.models.native.normalization import Normalization
from kderm.models.native.operations import (
    Activation,
    Apply,
    Dropout,
    Operation,
    Pass,
    Sum,
    compute_dtype,
    raw,
)

Planned = tuple[Operation, tuple[int, ...], tuple[int, ...]]  # operation, inputs, outputs


def fold(steps: list[Planned], outputs: tuple[int, ...]) -> list[Planned]:
    """The steps of a plan without what does nothing here, and with what can be folded folded.

    Args:
        steps: as the planner gives them.
        outputs: slots that the caller wants.
    """
    steps = _without_idle(steps, outputs)
    uses = Counter([*outputs, *(slot for _, inputs, _ in steps for slot in inputs)])
    readers = {slot: number for number, (_, inputs, _) in enumerate(steps) for slot in inputs}
    found: list[Planned] = []
    taken, fresh = set(), set()
    for number, (run, inputs, written) in enumerate(steps):
        if number in taken:
            continue
        if isinstance(run, Convolution):
            norm, behind = None, readers.get(written[0])
            if uses[written[0]] == 1 and behind is not None and _can_fold(run, steps[behind][0]):
                norm, _, written = steps[behind]
                taken.add(behind)
            run = FoldedConvolution(run, norm)
            fresh.update(written)
        elif isinstance(run, Sum):
            free = [slot for slot in inputs if slot in fresh and uses[slot] == 1]
            if free:
                others = list(inputs)
                others.remove(free[0])
                run, inputs = SumInPlace(run), (free[0], *others)
            fresh.update(written)
        found.append((run, inputs, written))
    return found


def _without_idle(steps: list[Planned], outputs: tuple[int, ...]) -> list[Planned]:
    same: dict[int, int] = {}
    kept = []
    for run, inputs, written in steps:
        inputs = tuple(same.get(slot, slot) for slot in inputs)
        idle = isinstance(run, Dropout) or (isinstance(run, Apply) and run.function is None)
        if idle and written[0] not in outputs:
            same[written[0]] = inputs[0]
        else:
            kept.append((run, inputs, written))
    return kept


def _can_fold(convolution: Convolution, behind: Operation) -> bool:
    norm = behind.norm if isinstance(behind, GatedNormalization) else behind
    if not isinstance(norm, Normalization) or convolution.activation is not None:
        return False
    return norm.layer.compute_dtype == convolution.layer.compute_dtype


class FoldedConvolution:
    """A convolution with the batch normalisation, activation and gate behind it."""

    def __init__(
        self, convolution: Convolution, norm: Normalization | GatedNormalization | None
    ) -> None:
        """Args:
        convolution: without an activation, or with one and no norm.
        norm: what stands behind it, or None.
        """
        self.convolution = convolution
        self.gated = norm if isinstance(norm, GatedNormalization) else None
        self.norm = norm.norm if isinstance(norm, GatedNormalization) else norm
        self.activation = in_place(
            convolution.activation if self.norm is None else self.norm.activation
        )
        layers = [convolution.layer] if self.norm is None else [convolution.layer, self.norm.layer]
        self.variables = [variable for layer in layers for variable in layer.variables]
        self.made: Any = None

    def __call__(self, run: Pass, x: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) -> (n, out, h', w')."""
        convolution = self.convolution
        weight, bias = self.weights()
        x, padding = convolution.padded(x.to(weight.dtype))
        layer = convolution.layer
        z = functional.conv2d(
            x, weight, bias, layer.strides, padding, layer.dilation_rate, convolution.groups
        )
        if self.gated is not None:
            return self.gated_in_place(run, z)
        return z if self.activation is None else self.activation(z)

    def gated_in_place(self, run: Pass, z: torch.Tensor) -> torch.Tensor:
        """The activation of z and its gate; z is lost."""
        name, gated = self.norm.name, self.gated
        if not (self.norm.is_known and kernels.fits(z)):
            z = z if self.activation is None else self.activation(z)
            return z.mul_(gated.squeezed(run, z))
        z = kernels.as_rows(z)
        scale, shift = z.new_ones(z.shape[1]), z.new_zeros(z.shape[1])
        gate = gated.excited(run, kernels.pooled(z, scale, shift, name))
        return kernels.normalize(z, scale, shift, name, gate, out=z)

    def weights(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Kernel and bias with the normalisation in them."""
        versions = [raw(variable)._version for variable in self.variables]
        device = raw(self.convolution.layer.kernel).device
        if self.made is None or self.made[0] != (versions, device):
            self.made = ((versions, device), *self.fold())
        return self.made[1:]

    @torch.no_grad()
    def fold(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The same from the variables as they are now."""
        dtype = compute_dtype(self.convolution.layer)
        weight, bias = self.convolution.weight(), self.convolution.bias()
        if self.norm is not None:
            layer = self.norm.layer
            gamma, beta = self.norm.affine()
            scale = torch.rsqrt(raw(layer.moving_variance) + layer.epsilon)
            scale = scale if gamma is None else scale * gamma
            shift = -raw(layer.moving_mean) if bias is None else bias - raw(layer.moving_mean)
            weight, bias = weight * scale[:, None, None, None], shift * scale
            bias = bias if beta is None else bias + beta
        weight = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        return weight, None if bias is None else bias.detach().to(dtype)


class SumInPlace:
    """The layer Add, written over its first tensor."""

    def __init__(self, stock: Sum) -> None:
        self.stock = stock

    def __call__(self, run: Pass, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        spread = any(other.shape != first.shape for other in others)
        if spread or first.dtype != compute_dtype(self.stock.layer):
            return self.stock(run, first, *others)
        for other in others:
            first.add_(other)
        return first


def in_place(activation: Activation | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The function that writes over its argument, where torch has one."""
    return _IN_PLACE.get(activation, activation)


_IN_PLACE: dict[Any, Any] = {
    functional.relu: torch.relu_,
    functional.relu6: lambda x: functional.relu6(x, inplace=True),
    functional.silu: lambda x: functional.silu(x, inplace=True),
    functional.hardswish: lambda x: functional.hardswish(x, inplace=True),
    torch.sigmoid: torch.sigmoid_,
}
