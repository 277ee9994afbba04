"""`.keras` files without Keras: is it one, what is in it, and the same bytes for the same model."""

import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from kderm.errors import UserError

_CONFIG_BYTES = 64 * 2**20


def read_config(path: str | os.PathLike) -> str:
    """The model config, as JSON text, in a `.keras` file.

    Raises:
        UserError: no such file, or not a Keras file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Expected a .keras file. Received: {path}, which is not there.")
    try:
        with zipfile.ZipFile(path) as archive:
            item = archive.getinfo("config.json")
            if item.file_size > _CONFIG_BYTES:
                raise zipfile.BadZipFile(f"a config of {item.file_size:,} bytes")
            return archive.read(item).decode("utf-8")
    except (zipfile.BadZipFile, zlib.error, KeyError, OSError, ValueError) as error:
        raise UserError(
            f"Expected a model saved with model.save('NAME.keras'). Received: {path} ({error}). "
            "Save it again, or convert an older .h5 model with Keras first."
        ) from None


def make_reproducible(path: str | os.PathLike) -> None:
    """Write a `.keras` file again without its date and the memory addresses in it.

    So the same weights give the same bytes, and a bundle's digests say what was trained, not when.
    """
    with zipfile.ZipFile(path) as archive:
        parts = [
            (item.filename, item.compress_type, archive.read(item)) for item in archive.filelist
        ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, compression, data in parts:
            if name == "metadata.json":
                data = json.dumps(json.loads(data) | {"date_saved": ""}).encode()
            elif name == "config.json":
                data = _SHARED.sub(_renumbered(), data)
            archive.writestr(zipfile.ZipInfo(name), data, compression)


# What objects of one model have in common is numbered by Python's `id`.
_SHARED = re.compile(rb'("shared_object_id": )(\d+)')


def _renumbered() -> Callable[[re.Match], bytes]:
    numbers: dict[bytes, int] = {}

    def replace(found: re.Match) -> bytes:
        return found[1] + str(numbers.setdefault(found[2], len(numbers) + 1)).encode()

    return replace
