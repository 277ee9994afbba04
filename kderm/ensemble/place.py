"""The folder that predictions are written to: one writer at a time, and no other result replaced.

`kderm.ensemble.predictor` asks here before it predicts. Sees names only, no image and no model.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kderm.atomic import locked, write_json
from kderm.counting import counted
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.inputs import Inputs
from kderm.errors import UserError
from kderm.run_dir import RunDir

PREDICTIONS = "predictions.csv"
FIGURES = "figures"
_SOURCES = "sources.json"
_SHOWN_SOURCES = 3


def default_name(sources: Sequence[str]) -> str:
    """A folder name for the results of `sources`."""
    name = Path(sources[0]).resolve().stem.replace("*", "_") or "images"
    return name if len(sources) == 1 else f"{name}_and_{len(sources) - 1}_more"


def settings_name(bundle: Bundle, asked: Mapping[str, Any], stated: Mapping[str, float]) -> str:
    """What a result's folder is called beside `default_name`, "" for the bundle's own settings.

    So a result that was asked for otherwise lies beside the others of its images, not over them.

    Args:
        bundle: the ensemble.
        asked: views, combine, engine, precision and early_exit; None or absent for the bundle's.
        stated: the shares that answers are corrected to, by class; empty for no correction.
    """
    own = {"engine": "keras"} | {
        key: getattr(bundle.facts, key) for key in ("views", "combine", "precision", "early_exit")
    }
    parts = [
        f"{key.replace('_', '-')}-{asked[key]}"
        for key in own
        if asked.get(key) is not None and asked[key] != own[key]
    ]
    shares = [f"{name}-{share:g}" for name, share in stated.items()]
    parts += ["-".join(["prevalence", *shares])] if shares else []
    return "".join(f"_{part}" for part in parts)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Make `directory` and hold its lock: two calls at a time would remove each other's parts.

    Raises:
        UserError: another call holds it, or it cannot be written to.
    """
    refusal = (
        f"Another ensemble-predict is writing to {directory}. Wait for it, or choose another "
        "folder with --out."
    )
    with contextlib.ExitStack() as stack:
        with told_clearly(directory):
            stack.enter_context(locked(directory, refusal))
        yield


@contextlib.contextmanager
def told_clearly(directory: Path) -> Iterator[None]:
    """Turn a failure to write into a `UserError` that names the folder and the reason."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write to {directory}: {error.strerror or error} ({error.filename or ''}). "
            "Choose another folder with --out, or make room and repeat the command: finished parts "
            "are kept."
        ) from error


def check_directory(directory: Path, inputs: Inputs) -> None:
    """Refuse a result folder that would overwrite a run's own report or hold input images.

    Raises:
        UserError: it is a run's folder, or its figures/ would overwrite or become input images.
    """
    if (directory / "ensemble.json").exists():
        raise UserError(
            f"Results would overwrite the report of the run in {directory}. Choose another folder "
            f"with --out, for example {directory / 'predictions' / 'new'}."
        )
    # Not Path.resolve: a link to itself is an image that cannot be read, no reason to stop.
    figures = os.path.realpath(directory / FIGURES)
    paths = inputs.table["path"]
    inside = [path for path in paths if os.path.dirname(os.path.realpath(path)) == figures]
    if inside:
        raise UserError(
            f"The results go to {directory}, whose folder {FIGURES}/, where the report draws, "
            f"holds {counted(len(inside), 'input image')}: {inside[0]}. Choose another folder with "
            "--out."
        )


def refuse_other_sources(directory: Path, bundle: Bundle, inputs: Inputs) -> None:
    """Refuse to replace a finished result of other sources in the run's own folder of predictions.

    Names there come from the sources, and two folders "images" have one name. Sources may replace
    their own result, and in a folder that was chosen by hand any.

    Raises:
        UserError: the result there came from other sources.
    """
    if directory.resolve().parent != RunDir(bundle.directory).predictions.resolve():
        return
    if not (directory / PREDICTIONS).exists():
        return
    try:
        known = json.loads((directory / _SOURCES).read_text(encoding="utf-8"))["sources"]
    except (OSError, ValueError, LookupError, TypeError):
        return  # nobody can tell whose it is
    if sorted(known) != sorted(inputs.sources):
        raise UserError(
            f"{directory} holds the predictions of {_shown(known)}. Received: "
            f"{_shown(inputs.sources)}. Choose another folder with --out, or remove {directory}."
        )


def record_sources(directory: Path, inputs: Inputs) -> None:
    """Note where the result in `directory` comes from, for `refuse_other_sources`."""
    write_json(directory / _SOURCES, {"sources": list(inputs.sources)})


def _shown(sources: Sequence[str]) -> str:
    more = len(sources) - _SHOWN_SOURCES
    rest = f" and {more} more" if more > 0 else ""
    return ", ".join(sources[:_SHOWN_SOURCES]) + rest
