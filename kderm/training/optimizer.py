"""The optimizer of a phase: AdamW, the course of its rate, and rates of their own for some weights.

A phase is a run of epochs with the same weights in training; its batches are counted from 0.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from kderm.errors import unknown_name
from kderm.training.fused_update import use_fused_update

SCHEDULES = ("cosine", "one_cycle", "step", "plateau", "constant")

# The one-cycle course: from peak / 25 up over 30 % of the steps, and down to peak / 10,000.
_CYCLE_START, _CYCLE_END, _CYCLE_RISE = 1 / 25, 1e-4, 0.3


@keras.saving.register_keras_serializable(package="kderm")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Up on half a cosine, then down on another one.

    Source: Smith & Topin 2017, arXiv:1708.07120. Differs: cosines for straight lines, as is usual
    since; the momentum stays.
    """

    def __init__(self, peak: float, steps: int) -> None:
        """Args:
        peak: highest rate, reached after 30 % of the steps.
        steps: of the whole cycle.
        """
        super().__init__()
        self.peak = peak
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """The rate at `step`, counted from 0."""
        share = ops.clip(ops.cast(step, "float32") / max(1, self.steps - 1), 0.0, 1.0)
        risen = ops.minimum(share / _CYCLE_RISE, 1.0)
        fallen = ops.maximum(share - _CYCLE_RISE, 0.0) / (1.0 - _CYCLE_RISE)
        rising = _CYCLE_START + (1.0 - _CYCLE_START) * (1.0 - ops.cos(math.pi * risen)) / 2
        falling = _CYCLE_END + (1.0 - _CYCLE_END) * (1.0 + ops.cos(math.pi * fallen)) / 2
        return self.peak * ops.where(share < _CYCLE_RISE, rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {"peak": self.peak, "steps": self.steps}


@keras.saving.register_keras_serializable(package="kderm")
class WarmedSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Up in a straight line from 0, then the peak, times `decay` after every `decay_steps`."""

    def __init__(self, peak: float, warmup_steps: int, decay: float, decay_steps: int) -> None:
        """Args:
        peak: highest rate.
        warmup_steps: steps until it is reached.
        decay: factor; 1 for a rate that stays.
        decay_steps: steps between two falls, the warm-up's among them.
        """
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.decay_steps = decay_steps

    def __call__(self, step: Any) -> Any:
        """The rate at `step`, counted from 0."""
        step = ops.cast(step, "float32")
        warmed = ops.minimum(step / max(1, self.warmup_steps), 1.0) if self.warmup_steps else 1.0
        falls = ops.floor((step + 0.5) / self.decay_steps)  # a half, against rounding
        return self.peak * warmed * ops.power(self.decay, falls)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "decay_steps": self.decay_steps,
        }


def build_optimizer(
    *,
    peak: float,
    steps: int,
    warmup: float,
    weight_decay: float,
    clip_norm: float | None,
    ema: float | None,
    accumulate: int,
    schedule: str = "cosine",
    decay: float = 0.1,
    decay_steps: int | None = None,
    factors: Mapping[str, float] | None = None,
    scale_loss: bool = False,
) -> keras.optimizers.Optimizer:
    """AdamW. Biases and the scales and shifts of normalisation layers do not decay.

    Args:
        peak: highest learning rate.
        steps: batches of the whole phase.
        warmup: share of the steps that warm up, in [0, 1); not for "one_cycle" and "plateau".
        weight_decay: decoupled decay (Loshchilov & Hutter 2019, arXiv:1711.05101).
        clip_norm: limit of the global gradient norm, or None.
        ema: momentum of an average of the weights, or None.
        accumulate: batches whose gradients make one update.
        schedule: see `learning_rate`.
        decay: factor of schedule "step".
        decay_steps: batches between its falls.
        factors: path of each trained variable -> factor on its rate; None: 1 for all.
        scale_loss: scale the loss while gradients are taken, for float16. Keras does it by itself
            only where the outermost model has the mixed policy, which `warped` has not.

    Raises:
        UserError: an unknown schedule.
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate=learning_rate(schedule, peak, steps, warmup, decay, decay_steps),
        weight_decay=weight_decay,
        global_clipnorm=clip_norm,
        use_ema=ema is not None,
        ema_momentum=ema or 0.99,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        name="adamw",  # a fixed name, so that saved variables are found again by path
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Keras would write the averages over the weights at the end of each `fit`, so that a fold
    # resumed between two phases would start from other weights than an undisturbed one.
    optimizer.finalize_variable_values = lambda variables: None
    if factors is not None and any(factor != 1.0 for factor in factors.values()):
        _scale_rates(optimizer, factors)
    use_fused_update(optimizer, factors)
    return keras.optimizers.LossScaleOptimizer(optimizer) if scale_loss else optimizer


def learning_rate(
    schedule: str, peak: float, steps: int, warmup: float, decay: float, decay_steps: int | None
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """The course of the rate over the batches of a phase; a plain number for "plateau".

    "cosine": up in a straight line, then on a cosine to a hundredth of the peak. "one_cycle": see
    `OneCycle`. "step": up, then times `decay` every `decay_steps`. "constant": up, then the peak.
    "plateau": the peak, held in a variable of the optimizer that a callback lowers.

    Raises:
        UserError: an unknown schedule.
    """
    warmup_steps = int(warmup * steps)
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else peak,
            decay_steps=max(1, steps - warmup_steps),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
            alpha=0.01,
        )
    if schedule == "one_cycle":
        return OneCycle(peak, steps)
    if schedule == "constant":
        return WarmedSteps(peak, warmup_steps, 1.0, max(1, steps))
    if schedule == "step":
        if decay_steps is None:
            raise ValueError("schedule='step' needs decay_steps. Received: None.")
        return WarmedSteps(peak, warmup_steps, decay, decay_steps)
    if schedule == "plateau":
        return float(peak)
    raise unknown_name("schedule", schedule, SCHEDULES)


def _scale_rates(optimizer: keras.optimizers.Optimizer, factors: Mapping[str, float]) -> None:
    """Make `optimizer` update each variable at its own factor of the rate, on every backend.

    Variables of one factor are updated together, by the backend's own update (on torch all of them
    in one call). Clipping sees the gradients of all before, averages the weights of all after.
    """
    update, shrink = optimizer._backend_update_step, optimizer._apply_weight_decay
    rate_now, factor_now = optimizer._get_current_learning_rate, [1.0]

    def groups(variables: list) -> Iterator[tuple[float, list[int]]]:
        found: dict[float, list[int]] = {}
        for number, variable in enumerate(variables):
            found.setdefault(factors[variable.path], []).append(number)
        yield from found.items()

    @contextlib.contextmanager
    def scaled(factor: float) -> Iterator[None]:
        factor_now[0] = factor
        try:
            yield
        finally:
            factor_now[0] = 1.0

    def current_learning_rate() -> Any:
        rate = rate_now()
        return rate if factor_now[0] == 1.0 else rate * factor_now[0]

    def apply_weight_decay(variables: list) -> None:
        for factor, members in groups(variables):
            with scaled(factor):
                shrink([variables[number] for number in members])

    def update_step(grads: list, variables: list, learning_rate: Any) -> None:
        for factor, members in groups(variables):
            chosen = [variables[number] for number in members]
            update([grads[number] for number in members], chosen, learning_rate * factor)

    optimizer._get_current_learning_rate = current_learning_rate
    optimizer._apply_weight_decay = apply_weight_decay
    optimizer._backend_update_step = update_step


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, out of the loss scaling that float16 wraps around it."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def set_iterations(optimizer: keras.optimizers.Optimizer, steps: int) -> None:
    """Put the schedule where it is after `steps` batches of the phase."""
    inner_optimizer(optimizer)._iterations.assign(steps)
