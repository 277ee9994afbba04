"""The C++ kernels beside torch's own, called by pointer.

They exist for float32 on the CPU, where torch's operators read memory several times over. Without a
C++ compiler `available` is False and the callers use torch's operators.
"""

import ctypes
import math
from dataclasses import dataclass

import torch

from kderm.models.native.compiled import library

ACTIVATIONS = {None: 0, "silu": 1, "relu": 2, "relu6": 3}

_LANES = 16


def available() -> bool:
    """Whether the kernels could be compiled here."""
    return library() is not None


def fits(x: torch.Tensor) -> bool:
    """Whether the kernels can work on a feature map (n, c, h, w)."""
    plain = x.ndim == 4 and x.dtype == torch.float32 and x.device.type == "cpu"
    return plain and x.numel() > 0 and available()


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """`x` (n, c, h, w) in channels-last memory, copied only if it is not."""
    return x.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class BatchStatistics:
    """Of a batch, by channel, float32 (c,) each.

    Attributes:
        mean: over images and places.
        variance: biased.
        inverse: 1 / standard deviation, with epsilon.
        scale: gamma / standard deviation.
        shift: beta - mean · scale.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    inverse: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor


def statistics(
    x: torch.Tensor, gamma: torch.Tensor | None, beta: torch.Tensor | None, epsilon: float
) -> BatchStatistics:
    """What normalises `x`, which is as `as_rows` gives it."""
    n, c, height, width = x.shape
    fold = _Rows(x).fold
    found = x.new_empty(5, c)
    _call(
        "statistics",
        *(x, n * height * width, c, fold, gamma, beta, float(epsilon), found),
        torch.get_num_threads(),
    )
    return BatchStatistics(*found.unbind())


def normalize(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    activation: str | None,
    gate: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """activation(x · scale + shift) · gate; scale and shift (c,), gate (n, c); out may be x."""
    shape = _Rows(x)
    outputs = torch.empty_like(x) if out is None else out
    _call(
        "normalize",
        *(x, *shape, shape.spread(scale), shape.spread(shift), shape.spread(gate)),
        *(outputs, None, ACTIVATIONS[activation], torch.get_num_threads()),
    )
    return outputs


def pooled(
    x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, activation: str | None
) -> torch.Tensor:
    """The mean (n, c) over places of activation(x · scale + shift), which is not kept."""
    shape = _Rows(x)
    sums = x.new_empty(shape.n, shape.c)
    _call(
        "normalize",
        *(x, *shape, shape.spread(scale), shape.spread(shift), None, None, sums),
        *(ACTIVATIONS[activation], torch.get_num_threads()),
    )
    return shape.gathered(sums) / (x.shape[2] * x.shape[3])


def gate_gradient(
    g: torch.Tensor,
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    activation: str | None,
) -> torch.Tensor:
    """The gradient (n, c) by the gate of `normalize`, `g` by its result."""
    shape = _Rows(x)
    sums = x.new_empty(shape.n, shape.c)
    _call(
        "gate_gradient",
        *(g, x, *shape, shape.spread(scale), shape.spread(shift), sums),
        *(ACTIVATIONS[activation], torch.get_num_threads()),
    )
    return shape.gathered(sums)


def norm_gradient(
    g: torch.Tensor,
    x: torch.Tensor,
    batch: BatchStatistics,
    activation: str | None,
    gate: torch.Tensor | None = None,
    more: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of activation(norm(x)) · gate by x, by gamma and by beta.

    Args:
        g: gradient by the result, as `as_rows` gives it.
        x: what was normalised.
        batch: what `statistics` found.
        activation: name.
        gate: (n, c) or None.
        more: (n, c), further gradient by each place of the activation; with a gate.
    """
    shape, found = _Rows(x), torch.empty_like(x)
    sums = x.new_empty(2, x.shape[1])
    _call(
        "norm_gradient",
        *(g, x, *shape, shape.fold, shape.spread(batch.scale), shape.spread(batch.shift)),
        *(shape.spread(batch.mean), batch.inverse, shape.spread(gate), shape.spread(more)),
        *(sums, found, ACTIVATIONS[activation], torch.get_num_threads()),
    )
    return found, *sums.unbind()


def depthwise_kernel_gradient(
    g: torch.Tensor, x: torch.Tensor, stride: int, padding: tuple[int, int]
) -> torch.Tensor:
    """The gradient (c, 1, 5, 5) by a depthwise kernel, `g` by the convolution's result."""
    n, c, height, width = x.shape
    threads = torch.get_num_threads()
    groups = min(n, -(-2 * threads // -(-c // _LANES)))
    parts = x.new_empty(groups, 5, 5, c)
    _call(
        "depthwise_kernel_gradient",
        *(x, g, n, height, width, c, g.shape[2], g.shape[3], stride, *padding, groups),
        *(parts, threads),
    )
    return parts.sum(0).permute(2, 0, 1).unsqueeze(1)


class _Rows:
    """A feature map as rows of channels that fill the lanes: several places a row where c does not.

    Unpacks to (n, rows, channels of a row).
    """

    def __init__(self, x: torch.Tensor) -> None:
        self.n, self.own, height, width = x.shape
        fold = _LANES // math.gcd(self.own, _LANES)
        self.fold = fold if height * width % fold == 0 else 1
        self.places, self.c = height * width // self.fold, self.own * self.fold

    def __iter__(self):
        return iter((self.n, self.places, self.c))

    def spread(self, values: torch.Tensor | None) -> torch.Tensor | None:
        """Values (..., c) repeated for each place of a row."""
        if values is None:
            return None
        many = values if self.fold == 1 else values.repeat(*[1] * (values.ndim - 1), self.fold)
        return many.contiguous()

    def gathered(self, sums: torch.Tensor) -> torch.Tensor:
        """Sums (m, channels of a row) as sums (m, c)."""
        return sums if self.fold == 1 else sums.view(len(sums), self.fold, self.own).sum(1)


def _call(name: str, *arguments: torch.Tensor | float | None) -> None:
    """Call a kernel with pointers and whole or double numbers."""
    function = getattr(library(), name)
    converted = [_CONVERTED[type(one)](one) for one in arguments]
    if function(*converted) and name in ("statistics", "norm_gradient"):
        raise MemoryError(f"The kernel {name} could not have memory for its sums.")


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


_CONVERTED = {
    torch.Tensor: _pointer,
    torch.nn.Parameter: _pointer,
    int: ctypes.c_long,
    float: ctypes.c_double,
    type(None): ctypes.c_void_p,
}
