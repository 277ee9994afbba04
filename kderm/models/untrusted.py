"""`.keras` files from strangers: what is in one is looked at before Keras builds anything from it.

Keras' safe mode refuses Python code. It still imports modules that a config names, opens files that
some layers name, and builds weights of any size. `check_archive` reads the config as plain data and
the table of contents of the weights; `weights_within` stops a model that grows beyond what its file
holds; `check_maps` refuses one whose maps would fill any memory. `kderm.models.keras_file` asks all
three.
"""

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras

PARTS = {"metadata.json", "config.json", "model.weights.h5"}
CONFIG_BYTES = 64 * 2**20
WEIGHTS_BYTES = 4 * 2**30
# Weights do not compress: a file of which so much more comes out was made to fill a memory.
EXPANSION = 20
OBJECTS = 200_000
# Numbers of one map of one image: 4 GB in float32.
MAP_SIZE = 2**30

_MODULES = {
    *("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints"),
    *("keras.activations", "keras.dtype_policies", "keras.models", "keras.quantizers"),
    *("keras.src.models.functional", "keras.src.models.model", "keras.src.models.sequential"),
    "builtins",
}
# Layers and operations of these libraries, beside what stands above.
_PREFIXES = ("keras.ops", "keras.src.ops.", "keras_cv.", "keras_hub.", "kderm.models.")
# They hold Python code, open files, or run what another program has compiled.
_REFUSED = {
    *("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "__lambda__"),
    *("TextVectorization", "StringLookup", "IntegerLookup", "__typespec__"),
}


class Suspicious(ValueError):
    """A file that no kderm and no plain `model.save` writes; the text says what is in it."""


@dataclass(frozen=True)
class Checked:
    """What `check_archive` found.

    Attributes:
        config: the model's config, JSON text.
        weights: bytes of all arrays that the file holds.
    """

    config: str
    weights: int


def check_archive(path: Path) -> Checked:
    """Look through a `.keras` file without building or decompressing much.

    Raises:
        Suspicious: it holds more than a model of layers and its weights.
        OSError, zipfile.BadZipFile, KeyError: it is no whole `.keras` file.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {item.filename: item for item in archive.infolist()}
        if len(sizes) < len(archive.infolist()):
            raise Suspicious("it holds two parts of one name")
        if strangers := sorted(set(sizes) - PARTS):
            raise Suspicious(f"it holds {strangers[0][:80]!r} beside the model")
        for name, item in sizes.items():
            limit = WEIGHTS_BYTES if name.endswith(".h5") else CONFIG_BYTES
            most = min(limit, EXPANSION * item.compress_size + 2**20)
            if item.file_size > most:
                raise Suspicious(f"{name} would become {item.file_size:,} bytes")
        config = archive.read("config.json").decode("utf-8")
        _check_config(config)
        return Checked(config, _weights(archive.read("model.weights.h5")))


def _check_config(text: str) -> None:
    try:
        left = [json.loads(text)]
    except RecursionError:
        raise Suspicious("its config is nested without end") from None
    count = 0
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
            if "class_name" in value:
                count += 1
                _check_class(value)
    if count > OBJECTS:
        raise Suspicious(f"its config has {count:,} objects")


def _check_class(value: dict[str, Any]) -> None:
    name, module = str(value["class_name"]), value.get("module")
    if name in _REFUSED or str(value.get("registered_name")).rpartition(">")[2] in _REFUSED:
        raise Suspicious(f"its config asks for {name}, which may run code or open files")
    if module is None or module in _MODULES or str(module).startswith(_PREFIXES):
        return
    raise Suspicious(f"its config asks for {name[:80]} of the module {str(module)[:80]!r}")


def _weights(content: bytes) -> int:
    """Bytes of the arrays in an HDF5 file, every one of which must really be in it."""
    import h5py

    total, seen = 0, set()

    def look(group: Any) -> None:
        nonlocal total
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Suspicious(f"its weights have a link at {name[:80]!r}")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:  # else one array would be counted, and so allowed, many times
                raise Suspicious(f"its weights have a second name, {name[:80]!r}, for one thing")
            seen.add(address)
            if isinstance(item, h5py.Group):
                look(item)
                continue
            declared = math.prod(item.shape) * item.dtype.itemsize
            if item.is_virtual or item.external or item.id.get_storage_size() < declared:
                raise Suspicious(f"its weights {name[:80]!r} are not stored in it")
            total += declared

    with h5py.File(io.BytesIO(content), "r") as file:
        seen.add(h5py.h5o.get_info(file.id).addr)
        look(file)
    if total > len(content):  # arrays that lie over one another
        raise Suspicious(f"its weights claim {total:,} bytes where it holds {len(content):,}")
    return total


@contextlib.contextmanager
def weights_within(limit: int) -> Iterator[None]:
    """Stop a model whose layers make more than `limit` bytes of weights.

    Raises:
        Suspicious: they do.
    """
    made, original = 0, keras.layers.Layer.add_weight

    def add_weight(self: Any, shape: Any = None, *args: Any, **more: Any) -> Any:
        nonlocal made
        # Twice: room for a layer that keeps a copy, and for states that are not saved.
        made += 4 * math.prod((shape,) if isinstance(shape, int) else shape or ())
        if made > 2 * limit + 2**20:
            raise Suspicious(f"its layers want more weights than the {limit:,} bytes it holds")
        return original(self, shape, *args, **more)

    with mock.patch.object(keras.layers.Layer, "add_weight", add_weight):
        yield


def check_maps(model: keras.Model) -> None:
    """Refuse a model with a map that no image's answer needs.

    Raises:
        Suspicious: the output of a layer for one image is larger than `MAP_SIZE`.
    """
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            for tensor in node.output_tensors:
                size = math.prod(side or 1 for side in tensor.shape)
                if size > MAP_SIZE:
                    raise Suspicious(f"its layer {layer.name[:80]!r} makes {size:,} numbers")
