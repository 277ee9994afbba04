"""Hostile members: code, links, sizes and nonsense in a `model.keras` whose digest fits."""

# ruff: noqa: D103 (the names say what is changed)

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drills.hostile import (
    ATTACKS,
    Attack,
    Payload,
    add_layer,
    attack,
    bomb,
    change,
    change_config,
    change_weights,
    first_array,
    keras_object,
    member,
    parts_of,
    reseal,
    write_member,
)

# === Members ===


@attack("code")
def python_code_in_a_lambda(folder: Path, canary: Path) -> None:
    import keras

    inputs = keras.Input((7,))
    run = keras.layers.Lambda(lambda x: x)
    model = keras.Model(inputs, run(inputs))
    text = json.dumps(keras.saving.serialize_keras_object(model))
    layer = json.loads(text)["config"]["layers"][-1]
    add_layer(folder, {key: layer[key] for key in ("module", "class_name", "config")})


_OBJECTS: dict[str, dict[str, Any]] = {
    "a torch module by pickle": keras_object("TorchModuleWrapper", module="keras.layers"),
    "a saved model of TensorFlow": keras_object("TFSMLayer", filepath="/tmp"),
    "a class of the module os": keras_object("system", module="os"),
    "a class of subprocess": keras_object("Popen", module="subprocess", args=["true"]),
    "a class of an unknown module": keras_object("Layer", module="antigravity"),
    "a class of kderm that is no layer": keras_object("locked", module="kderm.atomic"),
    "a table of words from a file": keras_object("StringLookup", vocabulary="/etc/passwd"),
    "a layer that is none": keras_object("NoSuchLayer"),
    "an optimizer as a layer": keras_object("Adam", module="keras.optimizers"),
    "a lookup under another name": keras_object("Dense") | {"registered_name": "x>Lambda"},
}
for _name, _object in _OBJECTS.items():
    ATTACKS[_name] = (
        "code",
        lambda folder, canary, layer=_object: add_layer(folder, layer),
    )


@attack("code")
def a_function_that_downloads(folder: Path, canary: Path) -> None:
    function = {
        "module": "keras.utils",
        "class_name": "function",
        "config": "get_file",
        "registered_name": "get_file",
    }
    add_layer(folder, keras_object("Activation", activation=function))


@attack("code")
def a_pickle_named_model_keras(folder: Path, canary: Path) -> None:
    member(folder).write_bytes(pickle.dumps(Payload(canary)))
    reseal(folder)


@attack("code")
def a_torch_file_named_model_keras(folder: Path, canary: Path) -> None:
    with zipfile.ZipFile(member(folder), "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))
        archive.writestr("archive/version", "3")
    reseal(folder)


@attack("code")
def a_pickle_beside_the_model(folder: Path, canary: Path) -> None:
    parts = parts_of(member(folder))
    write_member(folder, parts | {"assets/extra.pkl": pickle.dumps(Payload(canary))})


@attack("path")
def a_part_that_leads_out_of_the_member(folder: Path, canary: Path) -> None:
    write_member(folder, parts_of(member(folder)) | {f"../../{canary.name}": b"x"})


@attack("size")
def a_config_that_unfolds(folder: Path, canary: Path) -> None:
    parts = parts_of(member(folder))
    write_member(folder, {"model.weights.h5": parts["model.weights.h5"]})
    bomb(member(folder), "config.json")
    reseal(folder)


@attack("size")
def weights_that_unfold(folder: Path, canary: Path) -> None:
    parts = parts_of(member(folder))
    write_member(folder, {"config.json": parts["config.json"], "metadata.json": b"{}"})
    bomb(member(folder), "model.weights.h5")
    reseal(folder)


@attack("size")
def a_config_nested_without_end(folder: Path, canary: Path) -> None:
    write_member(folder, parts_of(member(folder)) | {"config.json": b"[" * 200_000})


@attack("size")
def a_hundred_thousand_layers(folder: Path, canary: Path) -> None:
    change_config(
        folder,
        lambda config: config["config"].update(
            layers=config["config"]["layers"] + [keras_object("Dropout", rate=0.1)] * 250_000
        ),
    )


@attack("size")
def a_layer_of_a_hundred_million_units(folder: Path, canary: Path) -> None:
    add_layer(folder, keras_object("Dense", units=10**8))


@attack("size")
def many_layers_of_a_million_weights(folder: Path, canary: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            if layer["class_name"] in ("Conv2D", "Dense"):
                layer["config"]["filters"] = layer["config"]["units"] = 20_000
                layer["config"].pop("units" if layer["class_name"] == "Conv2D" else "filters")

    change_config(folder, edit)


@attack("size")
def a_map_of_a_terabyte(folder: Path, canary: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        first = layers[0]["name"]
        shape = layers[0]["config"]["batch_shape"]
        tensor = {
            "class_name": "__keras_tensor__",
            "config": {"shape": shape, "dtype": "float32", "keras_history": [first, 0, 0]},
        }
        huge = keras_object("ZeroPadding2D", padding=[[10**5] * 2, [10**5] * 2])
        mean = keras_object("GlobalAveragePooling2D")
        wide = {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None, None, None, 3], "dtype": "float32"},
        }
        wide["config"]["keras_history"] = ["huge", 0, 0]
        layers += [
            huge | {"name": "huge", "inbound_nodes": [{"args": [tensor], "kwargs": {}}]},
            mean | {"name": "mean", "inbound_nodes": [{"args": [wide], "kwargs": {}}]},
        ]
        huge["config"]["name"], mean["config"]["name"] = "huge", "mean"
        config["config"]["output_layers"] = [["mean", 0, 0]]

    change_config(folder, edit)


@attack("size")
def weights_that_are_not_in_the_file(folder: Path, canary: Path) -> None:
    def edit(file: Any) -> None:
        name = first_array(file)
        del file[name]
        file.create_dataset(name, shape=(2**29,), dtype="f4", chunks=(2**20,), fillvalue=1.0)

    change_weights(folder, edit)


@attack("path")
def weights_that_link_to_another_file(folder: Path, canary: Path) -> None:
    def edit(file: Any) -> None:
        import h5py

        name = first_array(file)
        del file[name]
        file[name] = h5py.ExternalLink("/etc/passwd", "/")

    change_weights(folder, edit)


@attack("path")
def weights_stored_in_another_file(folder: Path, canary: Path) -> None:
    def edit(file: Any) -> None:
        name = first_array(file)
        shape = file[name].shape
        del file[name]
        outside = [("/etc/passwd", 0, 4 * int(np.prod(shape)))]
        file.create_dataset(name, shape, "f4", external=outside)

    change_weights(folder, edit)


@attack("path")
def weights_that_link_to_themselves(folder: Path, canary: Path) -> None:
    import h5py

    change_weights(folder, lambda file: file.__setitem__("loop", h5py.SoftLink("/loop")))


def _weights(edit: Callable[[np.ndarray], np.ndarray]) -> Attack:
    def apply(file: Any) -> None:
        name = first_array(file)
        values = edit(file[name][()])
        del file[name]
        file[name] = values

    return lambda folder, canary: change_weights(folder, apply)


ATTACKS["weights that are no numbers"] = ("model", _weights(lambda a: a * np.nan))
ATTACKS["weights of another shape"] = ("model", _weights(lambda a: a.ravel()))
ATTACKS["weights of another type"] = ("model", _weights(lambda a: a.astype("S4")))


@attack("model")
def a_member_with_another_input(folder: Path, canary: Path) -> None:
    change(folder, lambda values: values["image"].update(size=values["image"]["size"] + 4))


@attack("model")
def a_member_of_other_classes(folder: Path, canary: Path) -> None:
    add_layer(folder, keras_object("Flatten"))
    change_config(
        folder,
        lambda config: config["config"].update(output_layers=[config["config"]["input_layers"][0]]),
    )


@attack("model")
def half_a_member(folder: Path, canary: Path) -> None:
    content = member(folder).read_bytes()
    member(folder).write_bytes(content[: len(content) // 2])
    reseal(folder)


@attack("model")
def noise_in_place_of_weights(folder: Path, canary: Path) -> None:
    write_member(folder, parts_of(member(folder)) | {"model.weights.h5": os.urandom(4000)})


@attack("model")
def a_config_that_is_no_model(folder: Path, canary: Path) -> None:
    write_member(
        folder, parts_of(member(folder)) | {"config.json": b'{"class_name": "Functional"}'}
    )
