"""What hostile bundles are made of: a good bundle with one thing changed.

`ATTACKS` names them; `hostile_files` and `hostile_members` fill it. Where a member or a file beside
it was changed, the digests in `ensemble.json` are made to fit, so that they alone do not stop the
attack; those of the group "digest" leave them. Code in a bundle would write the file `canary`.
"""

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Attack = Callable[[Path, Path], None]  # (the bundle's folder, the canary)
ATTACKS: dict[str, tuple[str, Attack]] = {}
BOMB = 3 * 2**29  # bytes that a few kilobytes of zip become


def attack(group: str) -> Callable[[Attack], Attack]:
    """Enter a function into `ATTACKS` under its name."""

    def enter(function: Attack) -> Attack:
        ATTACKS[function.__name__.replace("_", " ")] = (group, function)
        return function

    return enter


# === What the attacks are made of ===


def facts(folder: Path) -> dict[str, Any]:
    """The content of `ensemble.json`."""
    return json.loads((folder / "ensemble.json").read_text())


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit `ensemble.json` by hand."""
    values = facts(folder)
    edit(values)
    (folder / "ensemble.json").write_text(json.dumps(values))


def member(folder: Path) -> Path:
    """The first member's file."""
    return folder / facts(folder)["members"][0]["path"]


def reseal(folder: Path) -> None:
    """Make the digests in `ensemble.json` fit the files."""

    def edit(values: dict[str, Any]) -> None:
        for one in values["members"]:
            one["sha256"] = _sha256(folder / one["path"])
        if values["unlike"]:
            values["unlike"]["sha256"] = _sha256(folder / values["unlike"]["file"])

    change(folder, edit)


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def parts_of(path: Path) -> dict[str, bytes]:
    """The parts of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_member(folder: Path, parts: dict[str, bytes], compression: int = 0) -> None:
    """Replace the first member by these parts, and reseal."""
    with zipfile.ZipFile(member(folder), "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    reseal(folder)


def change_config(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit the first member's config."""
    parts = parts_of(member(folder))
    config = json.loads(parts["config.json"])
    edit(config)
    write_member(folder, parts | {"config.json": json.dumps(config).encode()})


def add_layer(folder: Path, layer: dict[str, Any]) -> None:
    """Put a layer behind the first member's last one."""

    def edit(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        last = layers[-1]["name"]
        tensor = {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None, 7], "dtype": "float32", "keras_history": [last, 0, 0]},
        }
        layers.append(
            layer | {"name": "extra", "inbound_nodes": [{"args": [tensor], "kwargs": {}}]}
        )
        config["config"]["output_layers"] = [["extra", 0, 0]]

    change_config(folder, edit)


def keras_object(name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    """An object in a Keras config."""
    return {
        "module": module,
        "class_name": name,
        "config": {"name": "extra"} | config,
        "registered_name": None,
    }


def change_weights(folder: Path, edit: Callable[[Any], Any]) -> None:
    """Edit the first member's HDF5 weights."""
    import h5py

    parts = parts_of(member(folder))
    content = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        edit(file)
    write_member(folder, parts | {"model.weights.h5": content.getvalue()})


def first_array(file: Any) -> str:
    """The path of an array in HDF5 weights."""
    import h5py

    def name_of_array(name: str, item: Any) -> str | None:  # None goes on
        return name if isinstance(item, h5py.Dataset) and item.ndim > 1 else None

    return file.visititems(name_of_array)


class Payload:
    """What unpickling runs."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.canary}",)


def change_unlike(folder: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> None:
    """Edit the arrays of `unlike.npz`."""
    path = folder / "unlike.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    edit(arrays)
    np.savez(path, **arrays)
    reseal(folder)


def write_unlike(folder: Path, parts: dict[str, bytes]) -> None:
    """Replace `unlike.npz` by a zip of these parts."""
    with zipfile.ZipFile(folder / "unlike.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    reseal(folder)


def npy(shape: tuple[int, ...], content: bytes = b"", dtype: str = "<f4") -> bytes:
    """An npy file whose header says `shape`, whatever its content."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def bomb(path: Path, name: str, start: bytes = b"") -> None:
    """Append a part to a zip that becomes `BOMB` bytes."""
    block = b"\0" * 2**24
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as part,
    ):
        part.write(start)
        for _ in range(BOMB // len(block)):
            part.write(block)
