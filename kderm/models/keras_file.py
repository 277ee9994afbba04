"""Reading `.keras` files and rebuilding functional graphs; the lowest layer of the models room.

A file from elsewhere may need classes of keras-cv or keras-hub: they are imported only if its own
config mentions them. Python code inside a file (Lambda layers) is never run.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np

from kderm.errors import UserError, first_line, missing_extra
from kderm.font_list import make_font_list
from kderm.models.keras_archive import read_config
from kderm.models.stages import HEAD
from kderm.models.untrusted import Suspicious, check_archive, check_maps, weights_within
from kderm.runtime import is_out_of_memory, quiet_tensorflow

# Blocks that hide their layers: called, they show one node; unrolled, ordinary Keras layers that
# load without the library which wrote them and that layer swaps can see.
_COMPOSITE_BLOCKS = ("MBConvBlock", "FusedMBConvBlock", "CBABlock")


def import_keras_cv() -> Any:
    """The module `keras_cv`, imported late because it costs seconds and wants TensorFlow."""
    make_font_list()  # keras-cv draws, too
    try:
        with quiet_tensorflow():
            import keras_cv
    except ImportError as error:
        raise UserError(
            "Presets keras_cv/... need the packages keras-cv and tensorflow (tensorflow-cpu is "
            f"enough). Received: {error}. Install them with: pip install 'keras-cv>=0.9,<0.10' "
            "tensorflow-cpu"
        ) from None
    return keras_cv


def import_keras_hub() -> Any:
    """The module `keras_hub`, an optional extra."""
    try:
        with quiet_tensorflow():
            import keras_hub
    except ImportError:
        raise missing_extra("keras-hub", "hub", "A preset keras_hub/...") from None
    return keras_hub


def load_keras_file(path: str | os.PathLike) -> keras.Model:
    """The model in a `.keras` file, under the backend at hand, in safe mode and not compiled.

    Raises:
        UserError: no such file, not a Keras file, or one that needs Python code of its own.
    """
    read_config(path)
    try:
        checked = check_archive(Path(path))
        if "keras_cv" in checked.config:
            import_keras_cv()
        if "keras_hub" in checked.config:
            import_keras_hub()
        with _no_random_draws(), weights_within(checked.weights):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        check_maps(model)
    except Suspicious as error:
        raise UserError(
            f"The model in {path} is refused: {error}. Expected layers of Keras (or keras-cv, "
            "keras-hub) and their weights, as model.save writes them. If it is your own, save it "
            "again without that; if not, do not trust where it came from."
        ) from None
    except UserError:
        raise
    # Whatever Keras says of a config that makes no sense: a stranger's file has no end of ways.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"The model in {path} cannot be loaded: {first_line(error)[:300]} Expected a model of "
            "Keras' own layers (or keras-cv's, keras-hub's), as model.save writes it."
        ) from None
    if any(np.isnan(value).any() for value in model.get_weights()):
        raise UserError(
            f"Expected a model whose weights are all there. Received: {path}, some of whose "
            "weights are missing or are not numbers. Copy or train it again."
        )
    return model


def unroll(
    model: keras.Model, inputs: Any, first: Callable[[Any], Any] | None = None
) -> keras.Model:
    """`model` on a new input, its nested models and composite blocks taken apart.

    Layers and weights are shared with `model`.

    Args:
        model: functional model with one input.
        inputs: Keras input tensor (n, h, w, 3), of another size if the layers allow it.
        first: applied to `inputs` before the layers that read them (preprocessing).
    """
    start = first(inputs) if first is not None else inputs

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args = keras.tree.map_structure(lambda value: start if value is inputs else value, args)
        if isinstance(layer, keras.Sequential):
            layer = keras.Model(layer.inputs, layer.outputs)
        if isinstance(layer, keras.Model) and len(layer.inputs) == len(layer.outputs) == 1:
            return keras.tree.flatten(layer._run_through_graph([args[0]], call_fn=call))[0]
        if type(layer).__name__ in _COMPOSITE_BLOCKS:
            return layer.call(*args, **kwargs)
        return layer(*args, **kwargs)

    plain = keras.Model(model.inputs[0], model.outputs[0])
    return keras.models.clone_model(
        plain, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call
    )


def rebuild(model: keras.Model, policy: str | None = None, *, redraw: bool = False) -> keras.Model:
    """A model of fresh layers with the same weights, in the dtype `policy` if one is given.

    Layers that stand in float32 while the rest is mixed (input scaling and head) keep float32.

    Args:
        model: functional model.
        policy: name of a dtype policy; None: each layer keeps its own.
        redraw: draw the weights anew, but for the statistics of input scaling.
    """
    pairs = []

    def clone(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return rebuild(layer, policy, redraw=redraw)
        config = layer.get_config()
        if policy is not None and "dtype" in config:
            config["dtype"] = "float32" if _stays_float32(layer) else policy
        fresh = layer.__class__.from_config(config)
        pairs.append((layer, fresh))
        return fresh

    with contextlib.nullcontext() if redraw else _no_random_draws():
        copy = keras.models.clone_model(model, clone_function=clone)
    for layer, fresh in pairs:
        kept = not redraw or isinstance(layer, keras.layers.Normalization)
        if kept and isinstance(layer, keras.Layer) and layer.weights:
            fresh.set_weights(layer.get_weights())
    return copy


def _stays_float32(layer: Any) -> bool:
    return layer.name in FLOAT32_LAYERS or isinstance(
        layer, (keras.layers.Rescaling, keras.layers.Normalization)
    )


# Pixels up to 255 lose steps in bfloat16; the head feeds the loss.
FLOAT32_LAYERS = ("preprocess", *HEAD)


@contextlib.contextmanager
def _no_random_draws() -> Iterator[None]:
    """Kernels of new layers are NaN, for models whose weights are read or copied right after.

    Drawing them costs JAX a compilation a shape: 37 s instead of 4 s for EfficientNetV2-B0.
    """

    def not_drawn(self: Any, shape: tuple, dtype: Any = None) -> Any:
        return keras.ops.full(shape, float("nan"), dtype=dtype)

    with mock.patch.object(keras.initializers.VarianceScaling, "__call__", not_drawn):
        yield
