"""Batch normalisation, activation and squeeze-and-excite's gate as one operation that learns.

Only what is normalised is kept for the backward pass; the rest is computed again. Works on the
kernels of `kderm.models.native.kernels`; who calls it has asked whether they fit.
"""

from collections.abc import Callable
from typing import Any

import torch

from kderm.models.native import kernels

Net = Callable[[torch.Tensor], torch.Tensor]  # (n, c) -> gate (n, c)


class NormActivation(torch.autograd.Function):
    """activation(batch norm(x)) and the batch's mean and biased variance."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        epsilon: float,
        activation: str | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Args: x as `kernels.as_rows` gives it; activation by name."""
        batch = kernels.statistics(x, gamma, beta, epsilon)
        ctx.save_for_backward(x)
        ctx.batch, ctx.activation = batch, activation
        ctx.learns = gamma is not None, beta is not None
        ctx.mark_non_differentiable(batch.mean, batch.variance)
        outputs = kernels.normalize(x, batch.scale, batch.shift, activation)
        return outputs, batch.mean, batch.variance

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor, *unused: Any) -> tuple:
        """Gradients by x, gamma and beta."""
        (x,), batch = ctx.saved_tensors, ctx.batch
        by_x, by_gamma, by_beta = kernels.norm_gradient(
            kernels.as_rows(g), x, batch, ctx.activation
        )
        scales, shifts = ctx.learns
        return by_x, by_gamma if scales else None, by_beta if shifts else None, None, None


class GatedNormActivation(torch.autograd.Function):
    """z · gate(mean of z over places) with z = activation(batch norm(x)); and the statistics.

    Squeeze-and-excite (Hu et al. 2018, arXiv:1709.01507) with what stands before it; z is never
    stored.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        gamma: torch.Tensor | None,
        beta: torch.Tensor | None,
        epsilon: float,
        activation: str | None,
        net: Net,
        *weights: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Args: as `NormActivation`; net: the gate's network; weights: what it learns."""
        batch = kernels.statistics(x, gamma, beta, epsilon)
        ctx.pooled = kernels.pooled(x, batch.scale, batch.shift, activation).requires_grad_()
        with torch.enable_grad():
            ctx.gate = net(ctx.pooled)
        outputs = kernels.normalize(x, batch.scale, batch.shift, activation, ctx.gate.detach())
        ctx.save_for_backward(x)
        ctx.batch, ctx.activation, ctx.weights = batch, activation, weights
        ctx.learns = gamma is not None, beta is not None
        ctx.mark_non_differentiable(batch.mean, batch.variance)
        return outputs, batch.mean, batch.variance

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor, *unused: Any) -> tuple:
        """Gradients by x, gamma, beta and the weights of the gate's network."""
        (x,), batch, g = ctx.saved_tensors, ctx.batch, kernels.as_rows(g)
        by_gate = kernels.gate_gradient(g, x, batch.scale, batch.shift, ctx.activation)
        learnt = [weight for weight in ctx.weights if weight.requires_grad]
        by_pooled, *by_learnt = torch.autograd.grad(
            ctx.gate, [ctx.pooled, *learnt], by_gate.view_as(ctx.gate), retain_graph=True
        )
        by_x, by_gamma, by_beta = kernels.norm_gradient(
            g,
            x,
            batch,
            ctx.activation,
            gate=ctx.gate.detach(),
            more=by_pooled / (x.shape[2] * x.shape[3]),
        )
        found = iter(by_learnt)
        by_weights = [next(found) if weight.requires_grad else None for weight in ctx.weights]
        scales, shifts = ctx.learns
        return (
            by_x,
            by_gamma if scales else None,
            by_beta if shifts else None,
            None,
            None,
            None,
            *by_weights,
        )
