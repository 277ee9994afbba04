"""The end of each step and epoch: progress, NaN check, scoring, checkpoint, state."""

import math
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from kderm.data.batches import TrainBatches
from kderm.errors import UserError
from kderm.run_dir import FoldDir
from kderm.training.optimizer import inner_optimizer
from kderm.training.state import FoldState, save_state, save_weights

# Scores the held-out fold with the current weights: metric -> value, the monitor among them.
Scorer = Callable[[], dict[str, float]]


def diverged(what: str) -> UserError:
    """The clear word on numbers that are none: what happened, and what to change."""
    return UserError(
        f"{what}. Expected finite numbers. Start a new run (--run NAME) with a lower "
        "train.learning_rate, with train.clip_norm, or with train.precision=float32: repeating "
        "this one would repeat its draws."
    )


class StopOnNan(keras.callbacks.Callback):
    """End training with a clear word when the loss is no longer a number.

    Keras hands over the mean of the epoch so far, which stays no number once it is none. So it is
    enough to look now and then: each look makes a GPU wait for the host.
    """

    EVERY = 20

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if batch % self.EVERY == 0:
            self._look(batch + 1, logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._look(self.params["steps"], logs)

    def _look(self, step: int, logs: dict | None) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise diverged(f"The training loss became {loss} by step {step}")


class StepProgress(keras.callbacks.Callback):
    """Report (steps done, steps of the epoch)."""

    def __init__(self, report: Callable[[int, int], None], steps: int) -> None:
        super().__init__()
        self.report = report
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.report(batch + 1, self.steps)


class SeedEpoch(keras.callbacks.Callback):
    """Give each epoch random states of its own, so that a resumed epoch draws as it would have.

    Torch's dropout draws from torch's global generator, the other backends' from variables of the
    network, which tracing advances; and Keras peeks at the batches before the first epoch.
    """

    def __init__(self, batches: TrainBatches, variables: list, seed_of: Callable) -> None:
        """Args:
        batches: told which epoch begins.
        variables: the classifier's variables.
        seed_of: (epoch, number of the generator) -> 32-bit seed.
        """
        super().__init__()
        self.batches = batches
        self.states = [item for item in variables if item.path.endswith("seed_generator_state")]
        self.seed_of = seed_of

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.batches.epoch = epoch
        keras.utils.set_random_seed(self.seed_of(epoch, 0))
        for number, state in enumerate(self.states, 1):
            seed = self.seed_of(epoch, number) % 2**31  # signed on torch
            state.assign(np.array([seed, 0], dtype=state.dtype))


class EpochEnd(keras.callbacks.Callback):
    """Score the held-out fold, keep weights, lower the rate, decide on stopping, save the state.

    The order makes a kill at any moment harmless: kept weights first, then the state that refers
    to them. An epoch that was cut off is repeated from the state before it, with the same draws.
    """

    def __init__(
        self,
        state: FoldState,
        *,
        phase: str,
        variables: list,
        score: Scorer,
        monitor: str,
        checkpoint: str,
        keep: Sequence[str],
        patience: int | None,
        plateau: tuple[float, int] | None,
        place: FoldDir,
        tell: Sequence[Callable[[dict], None]],
    ) -> None:
        """Args:
        state: changed in place, one history row an epoch.
        phase: "frozen" or "fine_tune".
        variables: the classifier's variables.
        score: scores the held-out fold with the current weights.
        monitor: the held-out metric that picks the best epoch; "loss" the lower the better. With
            checkpoint "ema" that of the averages.
        checkpoint: "best", "last" or "ema".
        keep: which of "best", "last" and "ema" to write.
        patience: epochs of fine-tuning without a better monitor before stopping; None never.
        plateau: (factor, epochs): lower the rate by the factor after so many epochs of fine-tuning
            without a better monitor; None never.
        place: where the state and the weights go.
        tell: told each new history row, in turn.
        """
        super().__init__()
        self.state = state
        self.phase = phase
        self.variables = variables
        self.score = score
        self.monitor = monitor
        self.checkpoint = checkpoint
        self.keep = keep
        self.patience = patience
        self.plateau = plateau
        self.place = place
        self.tell = tell

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        state, optimizer = self.state, self.model.optimizer
        row = {
            "epoch": epoch + 1,
            "phase": self.phase,
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            "loss": float((logs or {})["loss"]),
        }
        row |= {f"val_{name}": value for name, value in self.score().items()}
        row |= self._score_average()
        better = self._note(row, epoch)
        if better and "best" in self.keep:
            save_weights(self.place.weights("best"), self.variables)
        if "last" in self.keep:
            save_weights(self.place.weights("last"), self.variables)
        self._lower_rate()

        row["seconds"] = round(time.monotonic() - self.started, 2)
        state.epoch, state.phase = epoch + 1, self.phase
        state.seconds += row["seconds"]
        state.history.append(row)
        if self.patience is not None and state.waited >= self.patience:
            state.stopped = self.model.stop_training = True
        save_state(self.place.state, state, self.variables, optimizer.variables)
        for listener in self.tell:
            listener(row)

    def _score_average(self) -> dict[str, float]:
        """Score and keep the averaged weights, where the optimizer has them."""
        raw = swap_in_average(self.model.optimizer, self.model.trainable_variables)
        if raw is None:
            return {}
        scores = {f"ema_{name}": value for name, value in self.score().items()}
        if "ema" in self.keep:
            save_weights(self.place.weights("ema"), self.variables)
        swap_back(self.model.trainable_variables, raw)
        return scores

    def _note(self, row: dict, epoch: int) -> bool:
        """Whether this epoch is the best so far; counts how long there has been none."""
        state = self.state
        value = row[f"{'ema' if self.checkpoint == 'ema' else 'val'}_{self.monitor}"]
        value = -value if self.monitor == "loss" else value
        value = -math.inf if math.isnan(value) else value  # a class is absent from the fold
        better = state.best is None or value > state.best
        if better:
            state.best, state.best_epoch = value, epoch + 1
        idle = better or self.phase == "frozen"
        state.waited = 0 if idle else state.waited + 1
        state.stalled = 0 if idle else state.stalled + 1
        return better

    def _lower_rate(self) -> None:
        if self.plateau is None or self.state.stalled < self.plateau[1]:
            return
        rate = inner_optimizer(self.model.optimizer).learning_rate
        rate.assign(rate * self.plateau[0])
        self.state.stalled = 0


def swap_in_average(optimizer, variables: list) -> list[np.ndarray] | None:
    """Put the optimizer's weight averages, where it keeps them, into the trainable variables.

    Returns:
        The values to give to `swap_back`, or None without averages.
    """
    inner = inner_optimizer(optimizer)
    if not inner.use_ema:
        return None
    raw = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    for variable, average in zip(variables, inner._model_variables_moving_average, strict=True):
        variable.assign(average)
    return raw


def swap_back(variables: list, raw: list[np.ndarray] | None) -> None:
    """Undo `swap_in_average`."""
    for variable, value in zip(variables, raw or [], strict=raw is not None):
        variable.assign(value)
