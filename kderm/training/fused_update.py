"""Keras' AdamW step on torch as a few fused operations over all weights; the same mathematics.

Keras spells the update out as some fifteen passes over every weight, clips and averages weight by
weight, and asks the device for the step count. Here torch's fused AdamW does it in one pass. What
Keras keeps in the optimizer's variables stays there: saving, resuming and schedules see no
difference. Must not import torch at module level.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import keras


def use_fused_update(
    optimizer: keras.optimizers.AdamW, factors: Mapping[str, float] | None = None
) -> bool:
    """Make `optimizer` apply its gradients in fused operations, in place; whether it does.

    With another backend than torch nothing happens. Weights that are no float32, or on a device
    without torch's fused operation, are updated as in Keras.

    Args:
        optimizer: AdamW that clips by the global norm or not at all.
        factors: path of each trained variable -> factor on its rate and decay; None: 1 for all.
    """
    clips_otherwise = optimizer.clipnorm or optimizer.clipvalue
    if keras.backend.backend() != "torch" or clips_otherwise or optimizer.amsgrad:
        return False
    update = _Update(optimizer, factors or {})
    stock = optimizer._backend_apply_gradients

    def apply(grads: list, variables: list) -> None:
        if update.fits(variables):
            update(grads, variables)
        else:
            stock(grads, variables)

    optimizer._backend_apply_gradients = apply
    return True


class _Update:
    """One call of it is what Keras' `_backend_apply_gradients` does."""

    def __init__(self, optimizer: keras.optimizers.AdamW, factors: Mapping[str, float]) -> None:
        self.optimizer, self.factors = optimizer, factors
        self.steps = _HostValue(optimizer._iterations)
        self.constant_rate = None
        if isinstance(optimizer._learning_rate, keras.Variable):
            self.constant_rate = _HostValue(optimizer._learning_rate)

    def fits(self, variables: list) -> bool:
        """Whether torch's fused operation takes all of the weights."""
        import torch

        return all(
            variable._value.dtype == torch.float32 and variable._value.device.type in _DEVICES
            for variable in variables
        )

    def __call__(self, grads: list, variables: list) -> None:
        """Update the weights, the moments, the gradient sums and the averages."""
        import torch

        optimizer, step = self.optimizer, self.steps.read()
        every = optimizer.gradient_accumulation_steps or 1
        grads = [_like(grad, one._value) for grad, one in zip(grads, variables, strict=True)]
        with torch.no_grad():
            if every > 1:
                sums = self._of(optimizer._accumulated_gradients, variables)
                torch._foreach_add_(sums, grads)
                grads = sums
            if (step + 1) % every == 0:
                self._step(grads, variables, step // every, every, self._rate(step))
                if every > 1:
                    torch._foreach_zero_(sums)
            if optimizer.use_ema:
                self._average(step // every)
        self.steps.expect_next()

    def _rate(self, step: int) -> float:
        """The learning rate, computed on the host."""
        if self.constant_rate is not None:
            return self.constant_rate.read()
        with keras.device("cpu"):
            return float(self.optimizer._learning_rate(step))

    def _step(self, grads: list, variables: list, done: int, every: int, rate: float) -> None:
        import torch

        optimizer, device = self.optimizer, variables[0]._value.device
        # Keras adds epsilon to the root of the raw second moment, torch to the corrected one's.
        correction = math.sqrt(1.0 - optimizer.beta_2 ** (done + 1))
        divisor = self._divisor(grads, every)
        groups = defaultdict(list)
        for number, variable in enumerate(variables):
            decays = optimizer.weight_decay and optimizer._use_weight_decay(variable)
            factor = self.factors[variable.path] if self.factors else 1.0
            groups[factor, bool(decays)].append(number)
        steps = torch.full((), float(done + 1), device=device)
        for (factor, decays), members in groups.items():
            chosen = [variables[number] for number in members]
            torch._fused_adamw_(
                [variable._value for variable in chosen],
                [grads[number] for number in members],
                self._of(optimizer._momentums, chosen),
                self._of(optimizer._velocities, chosen),
                [],
                [steps] * len(members),
                lr=rate * factor,
                beta1=optimizer.beta_1,
                beta2=optimizer.beta_2,
                weight_decay=optimizer.weight_decay if decays else 0.0,
                eps=optimizer.epsilon / correction,
                amsgrad=False,
                maximize=False,
                grad_scale=divisor,
                found_inf=None,
            )
        # torch's fused operation does not say that it has changed the weights; who keeps something
        # made from them asks (`kderm.models.native.inference`).
        torch.autograd.graph.increment_version([variable._value for variable in variables])

    def _divisor(self, grads: list, every: int) -> Any:
        """What gradients are divided by: the number of steps in them, and clipping. None for 1."""
        import torch

        limit = self.optimizer.global_clipnorm
        if not limit:
            return torch.full((), float(every), device=grads[0].device) if every > 1 else None
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))) / every
        # No number where the norm is none, as in Keras.
        return every * (norm / limit).clamp(min=1.0) + (norm - norm)

    def _average(self, done: int) -> None:
        """Move the averages of the weights; the first update sets them."""
        import torch

        optimizer = self.optimizer
        averages = [one._value for one in optimizer._model_variables_moving_average]
        weights = [one._value for one in optimizer._trainable_variables]
        momentum = optimizer.ema_momentum if done else 0.0
        torch._foreach_lerp_(averages, weights, 1.0 - momentum)

    def _of(self, kept: list, variables: list) -> list:
        """What the optimizer keeps for each of `variables`, in memory laid out like it."""
        index = self.optimizer._get_variable_index
        found = [kept[index(variable)] for variable in variables]
        for own, variable in zip(found, variables, strict=True):
            if own._value.stride() != variable._value.stride():
                own._value.data = _like(own._value.data, variable._value)
        return [own._value for own in found]


_DEVICES = ("cpu", "cuda")


def _like(tensor: Any, other: Any) -> Any:
    """`tensor` in the memory layout of `other`: the fused operation reads them side by side."""
    import torch

    if tensor.stride() == other.stride() and tensor.dtype == other.dtype:
        return tensor
    return torch.empty_like(other).copy_(tensor)


class _HostValue:
    """The value of a small variable, read from the device only when someone has changed it."""

    def __init__(self, variable: keras.Variable) -> None:
        self.variable, self.version, self.value = variable, None, None

    def read(self) -> Any:
        """The value, a Python number."""
        version = self.variable._value._version
        if version != self.version:
            self.version, self.value = version, self.variable._value.item()
        return self.value

    def expect_next(self) -> None:
        """One more is added to the variable after this."""
        self.version, self.value = self.version + 1, self.value + 1
