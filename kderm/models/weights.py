"""Where pretrained weights are found, fetched from and loaded; a missing weight fails loudly.

Looked for in this order: `$KDERM_WEIGHTS/<provider>/<name>` (default ~/.cache/kderm/weights), the
caches of kagglehub and Keras, then the network. A folder fetched on one machine and copied to
another is found there with no change of config. Never falls back to random weights.
"""

import importlib.util
import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kderm.atomic import write_json
from kderm.download import download, require_connection
from kderm.errors import UserError, missing_extra, reason_of
from kderm.leftovers import temporary_beside
from kderm.models.keras_archive import read_config
from kderm.models.presets import PRESETS, Preset, find_preset, require_size

if TYPE_CHECKING:
    import keras
    import pandas as pd

KAGGLE = "kaggle://"


def weights_root() -> Path:
    """The folder of fetched weights: $KDERM_WEIGHTS, or ~/.cache/kderm/weights."""
    given = os.environ.get("KDERM_WEIGHTS")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "kderm" / "weights"


def list_weights() -> "pd.DataFrame":
    """One row a preset: preset, parameters, size, licence, source, found.

    `found` is the path where the weights lie on this machine, "needs network", or "none" for an
    architecture without pretrained weights.
    """
    import pandas as pd

    rows = []
    for preset in PRESETS.values():
        path = find_local(preset)
        missing = "needs network" if preset.source else "none"
        rows.append(
            {
                "preset": preset.name,
                "parameters": preset.parameters,
                "size": preset.size,
                "licence": preset.licence,
                "source": preset.source,
                "found": str(path) if path else missing,
            }
        )
    return pd.DataFrame(rows)


def resolve_weights(preset: Preset, weights: str) -> Path | None:
    """The folder or file to load for the config's `model.weights`; None for random weights.

    Args:
        preset: a row of the registry.
        weights: "preset", "none", or a path.

    Raises:
        UserError: what was asked cannot be had.
    """
    if weights == "none":
        return None
    if weights != "preset":
        path = Path(weights).expanduser()
        if not path.exists():
            raise _missing(preset, f"model.weights={weights} is not there")
        return path
    if not preset.source:
        twin = f"{preset.name}_imagenet"
        hint = f", but {twin} has" if twin in PRESETS else ""
        raise _missing(preset, f"this preset is an architecture without pretrained weights{hint}")
    return find_local(preset) or fetch_weights(preset.name)


def check_preset(preset: str, size: int, weights: str, *, network: bool = True) -> None:
    """Raise at once what `build_classifier` would raise for a typo or for weights out of reach.

    Looks at the registry and at files; without the weights at hand, asks for at most
    `download.CONNECT_SECONDS` whether their host answers. Builds and downloads nothing.

    Args:
        preset: PROVIDER/NAME of the registry, or file/PATH.keras.
        size: side of the input in pixels.
        weights: "preset", "none", or the path of a preset folder or weights file.
        network: whether to ask for that host too; without, only what this machine tells.

    Raises:
        UserError: unknown preset, size too small, weights that cannot be had, or no keras-hub.
    """
    row = find_preset(preset)
    require_size(size)
    if row.provider == "file":
        read_config(Path(row.builder).expanduser())
        if weights == "preset":
            return
    if weights == "preset" and row.source and not find_local(row):
        try:
            if network:
                require_connection(_host(row))
        except OSError as error:
            raise _no_download(row, error) from None
    elif path := resolve_weights(row, weights):
        _require_weights_file(path, row)
    if row.provider == "keras_hub" and importlib.util.find_spec("keras_hub") is None:
        raise missing_extra("keras-hub", "hub", "A preset keras_hub/...")


def find_local(preset: Preset) -> Path | None:
    """The folder or file on this machine that holds the preset's weights, if any."""
    folder = weights_root() / preset.name
    if folder.is_dir() and _weights_in(folder):
        return folder
    if preset.source.startswith(KAGGLE):
        cache = Path(os.environ.get("KAGGLEHUB_CACHE", Path.home() / ".cache" / "kagglehub"))
        folder = cache / "models" / preset.source.removeprefix(KAGGLE)
        return folder if folder.is_dir() and _weights_in(folder) else None
    if preset.source:
        home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        path = home / "models" / preset.source.rsplit("/", 1)[1]
        return path if path.is_file() else None
    return None


def fetch_weights(preset: str, into: Path | None = None) -> Path:
    """Download the weights of `preset` into `into`/<provider>/<name>; that folder.

    Weights fetched before are not fetched again. `model.weights=FOLDER` takes the folder.

    Args:
        preset: PROVIDER/NAME of the registry.
        into: folder of weights; None: `weights_root()`.

    Raises:
        UserError: the preset has no pretrained weights, or the download failed.
    """
    row = find_preset(preset)
    if not row.source or row.provider == "file":
        raise _missing(row, "there is nothing to fetch: it has no pretrained weights of its own")
    target = (into or weights_root()) / row.name
    if target.is_dir() and _weights_in(target):
        return target
    try:
        with temporary_beside(target) as temporary:
            temporary.mkdir(parents=True)
            _download(row, temporary)
            facts = {"preset": row.name, "source": row.source, "licence": row.licence}
            write_json(temporary / "source.json", facts)
            if target.is_dir():  # left by another process, or by a copy that was cut short
                shutil.rmtree(target)
            os.replace(temporary, target)
    except UserError:
        raise
    except Exception as error:  # whatever a download library raises, the user gets one paragraph
        raise _no_download(row, error) from error
    return target


def keras_donor(path: Path | None) -> Path | None:
    """The `.keras` file that `path` is, or holds for want of an `.h5` file; None if neither."""
    if path is not None and path.is_dir():
        path = _weights_in(path)
    return path if path is not None and path.suffix == ".keras" else None


def load_weights_file(backbone: "keras.Model", weights: Path, preset: Preset) -> None:
    """Load a `.h5` or `.weights.h5` file, or the one in a preset folder, into `backbone`.

    Raises:
        UserError: no weights file, or one that does not fit the architecture.
    """
    path = _require_weights_file(weights, preset)
    if path.suffix == ".keras":
        return copy_weights_by_name(backbone, path, preset)
    # Keras warns about some parts that a file lacks, and leaves them as drawn. So that no layer is
    # trained from scratch unnoticed, every weight is marked first and must have lost its mark.
    for weight in backbone.weights:
        if "float" in weight.dtype:
            weight.assign(np.full(weight.shape, np.nan))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise misfit(preset, path, reason_of(error)) from None
    unset = [
        weight.path
        for weight, value in zip(backbone.weights, backbone.get_weights(), strict=True)
        if np.isnan(value).any()
    ]
    if unset:
        raise misfit(preset, path, f"it sets {len(unset)} weights not at all, first {unset[0]!r}")


def copy_weights_by_name(backbone: "keras.Model", path: Path, preset: Preset) -> None:
    """Copy into `backbone` the weights of the layers of the same names in a `.keras` file.

    Raises:
        UserError: a layer of the backbone is not in the file, or its weights have another shape.
    """
    from kderm.models.keras_file import load_keras_file

    donors = {layer.name: layer for layer in load_keras_file(path)._flatten_layers()}
    wanting = []
    for layer in backbone.layers:
        if not layer.weights:
            continue
        shapes = [tuple(weight.shape) for weight in layer.weights]
        donor = donors.get(layer.name)
        if donor is None or [tuple(weight.shape) for weight in donor.weights] != shapes:
            wanting.append(layer.name)
        else:
            layer.set_weights(donor.get_weights())
    if wanting:
        raise misfit(preset, path, f"{len(wanting)} layers find no match, first {wanting[0]!r}")


def misfit(preset: Preset, path: Path, reason: str) -> UserError:
    """The `UserError` for a weights file or folder of another architecture."""
    return UserError(
        f"Expected weights that fit {preset.name}. Received: {path} ({reason}). Give the file of "
        "this very architecture, or set model.preset to the one the file was made for."
    )


def _weights_in(folder: Path) -> Path | None:
    for pattern in ("model.weights.h5", "*.weights.h5", "*.h5", "*.keras"):
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    return None


def _require_weights_file(weights: Path, preset: Preset) -> Path:
    path = _weights_in(weights) if weights.is_dir() else weights
    if path is None or path.suffix not in (".h5", ".keras"):
        raise UserError(
            "Expected a preset folder with model.weights.h5, or a .weights.h5, .h5 or .keras file, "
            f"for {preset.name}. Received: {weights}."
        )
    return path


def _host(preset: Preset) -> str:
    """The address that a download asks first."""
    return "https://www.kaggle.com" if preset.source.startswith(KAGGLE) else preset.source


def _download(preset: Preset, folder: Path) -> None:
    if preset.source.startswith(KAGGLE):
        import kagglehub

        require_connection(_host(preset))  # kagglehub itself sets no limit for the name look-up
        handle = preset.source.removeprefix(KAGGLE)
        shutil.copytree(kagglehub.model_download(handle), folder, dirs_exist_ok=True)
        if _weights_in(folder) is None:
            raise OSError(f"the download holds no weights, only {sorted(os.listdir(folder))}")
        return
    path = folder / preset.source.rsplit("/", 1)[1]
    download(preset.source, path, checksum=f"md5:{preset.checksum}")


def _no_download(preset: Preset, error: Exception) -> UserError:
    return _missing(preset, f"downloading {preset.source} failed: {reason_of(error)}")


def _missing(preset: Preset, reason: str) -> UserError:
    fetch = (
        f"run `python run.py weights fetch {preset.name}` on a machine with a network and copy its "
        f"folder {preset.name}/ into {weights_root()} here (or where KDERM_WEIGHTS points)"
        if preset.source and preset.provider != "file"
        else "choose a preset with weights (`weights list`)"
    )
    return UserError(
        f"Expected the weights of {preset.name}. Received none: {reason}. Nothing is trained from "
        f"scratch by accident, so do one of three things: {fetch}; set model.weights=PATH to a "
        f"preset folder, .weights.h5 or .keras file; or set model.weights=none to start from "
        "random weights on purpose."
    )
