"""What a fold needs to go on after `kill -9`: weights, optimizer, history, best value, patience.

One file, written atomically after each epoch. Random state needs no file: every draw comes from
(seed, fold, epoch, batch), those of dropout layers too.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kderm.atomic import atomic_path
from kderm.errors import UserError


@dataclass
class FoldState:
    """Progress of one fold.

    Attributes:
        epoch: epochs finished.
        phase: "frozen" or "fine_tune", the phase of the last finished epoch ("" at the start).
        best: best monitor value so far, None before the first.
        best_epoch: its epoch (1-based).
        waited: epochs of fine-tuning since then.
        stalled: the same, counted anew after each lowering of the rate (schedule=plateau).
        micro_batch: images a step that fit on the device.
        seconds: time spent so far.
        stopped: whether early stopping has ended training.
        history: one dict an epoch.
    """

    epoch: int = 0
    phase: str = ""
    best: float | None = None
    best_epoch: int = 0
    waited: int = 0
    stalled: int = 0
    micro_batch: int = 0
    seconds: float = 0.0
    stopped: bool = False
    history: list[dict] = field(default_factory=list)


def save_state(path: Path, state: FoldState, model: Sequence, optimizer: Sequence = ()) -> None:
    """Write `state` with the values of the model's and the optimizer's variables."""
    arrays = {"state": np.array(json.dumps(asdict(state)))}
    arrays["paths"] = np.array(json.dumps([variable.path for variable in optimizer]))
    arrays |= _values("model", model) | _values("optimizer", optimizer)
    _write(path, arrays)


def load_state(path: Path, model: Sequence) -> FoldState:
    """Read `path` and put its values into the model's variables."""
    with np.load(path) as arrays:
        _assign_model(arrays, model, path)
        return FoldState(**json.loads(str(arrays["state"])))


def load_optimizer(path: Path, optimizer: Sequence) -> int:
    """Put the saved values into the variables of a built optimizer, by path.

    Variables that were not saved keep their value: after a full memory the optimizer has gradient
    accumulators that it did not have before.

    Returns:
        The images a step that the saved step count counts.
    """
    with np.load(path) as arrays:
        saved: dict[str, list[int]] = {}
        for number, name in enumerate(json.loads(str(arrays["paths"]))):
            saved.setdefault(name, []).append(number)
        for variable in optimizer:
            if saved.get(variable.path):
                variable.assign(arrays[f"optimizer/{saved[variable.path].pop(0)}"])
        return json.loads(str(arrays["state"]))["micro_batch"]


def save_weights(path: Path, model: Sequence) -> None:
    """Write the values of the model's variables."""
    _write(path, _values("model", model))


def load_weights(path: Path, model: Sequence) -> None:
    """Put the saved values into the model's variables."""
    with np.load(path) as arrays:
        _assign_model(arrays, model, path)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays)


def _values(kind: str, variables: Sequence) -> dict[str, np.ndarray]:
    import keras

    return {
        f"{kind}/{number}": keras.ops.convert_to_numpy(variable.value)
        for number, variable in enumerate(variables)
    }


def _assign_model(arrays: np.lib.npyio.NpzFile, variables: Sequence, path: Path) -> None:
    saved = sum(name.startswith("model/") for name in arrays.files)
    shapes = [tuple(arrays[f"model/{number}"].shape) for number in range(saved)]
    if shapes != [tuple(variable.shape) for variable in variables]:
        raise UserError(
            f"{path} holds {saved} arrays that do not fit this network's {len(variables)}. It was "
            f"written by another version: remove the folder {path.parent.name} where the run "
            f"{path.parent.parent.name!r} is kept to train that fold anew."
        )
    for number, variable in enumerate(variables):
        variable.assign(arrays[f"model/{number}"])
