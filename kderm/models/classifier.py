"""The member network: backbone -> pooling -> dropout -> logits, a plain functional Keras model.

Takes float32 RGB (n, size, size, 3) in 0..255, gives float32 logits (n, k). Views, warp and softmax
are outside. What is saved consists of Keras' own layers (and `GeM`), and loads under any backend.
"""

import os
from typing import Any

import keras
from keras import ops

from kderm.models.backbones import build_backbone
from kderm.models.keras_file import load_keras_file, rebuild
from kderm.models.presets import find_preset

HEAD = ("pool", "dropout", "logits")


@keras.saving.register_keras_serializable(package="kderm")
class GeM(keras.layers.Layer):
    """Generalised-mean pooling (n, h, w, c) -> (n, c) with one learnt exponent, in float32.

    mean(max(x, epsilon)^p)^(1/p): p = 1 is the average, p to infinity the maximum.
    Source: Radenovic et al. 2018, arXiv:1711.02512, eq. 3. Differs: one p for all channels.
    """

    def __init__(self, initial: float = 3.0, epsilon: float = 1e-6, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.initial = initial
        self.epsilon = epsilon

    def build(self, input_shape: tuple) -> None:
        """Create the exponent."""
        self.exponent = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self.initial), name="exponent"
        )

    def call(self, features: Any) -> Any:
        """Pool `features` (n, h, w, c) to (n, c)."""
        exponent = ops.maximum(self.exponent, 1.0)
        powers = ops.power(ops.maximum(features, self.epsilon), exponent)
        return ops.power(ops.mean(powers, axis=(1, 2)), 1.0 / exponent)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(n, h, w, c) -> (n, c)."""
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to rebuild the layer."""
        return super().get_config() | {"initial": self.initial, "epsilon": self.epsilon}


_POOLING = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
    "gem": GeM,
}


def build_classifier(
    preset: str,
    size: int,
    classes: int,
    *,
    pooling: str = "avg",
    dropout: float = 0.2,
    weights: str = "preset",
) -> keras.Model:
    """A classifier, float32 (n, size, size, 3) in 0..255 -> float32 logits (n, classes).

    Layers follow the global dtype policy, but input scaling, pooling, dropout and logits compute in
    float32 under every policy. The head's layers are called "pool", "dropout" and "logits".

    Args:
        preset: PROVIDER/NAME of the registry, or file/PATH.keras.
        size: side of the input in pixels.
        classes: number of logits.
        pooling: "avg", "max" or "gem".
        dropout: rate before the logits.
        weights: "preset", "none", or the path of a preset folder or weights file.

    Raises:
        UserError: unknown preset, or weights that cannot be had or do not fit.
    """
    backbone = build_backbone(find_preset(preset), size, weights)
    x = _POOLING[pooling](name="pool", dtype="float32")(backbone.output)
    x = keras.layers.Dropout(dropout, name="dropout", dtype="float32")(x)
    logits = keras.layers.Dense(classes, name="logits", dtype="float32")(x)
    return keras.Model(backbone.input, logits, name="classifier")


def set_backbone_trainable(classifier: keras.Model, trainable: bool) -> None:
    """Freeze or free all but the head; frozen batch normalisation uses its moving statistics."""
    for layer in classifier.layers:
        layer.trainable = True if layer.name in HEAD else trainable


def load_classifier(path: str | os.PathLike) -> keras.Model:
    """A saved member in float32, whatever the precision it was trained in, on any backend.

    Raises:
        UserError: no such file, not a Keras file, or one that holds Python code.
    """
    return as_float32(load_keras_file(path))


def as_float32(classifier: keras.Model) -> keras.Model:
    """`classifier` itself if it computes in float32 throughout, else a float32 copy."""
    # Inputs and models carry the policy of the process that made them, but compute nothing.
    idle = (keras.layers.InputLayer, keras.Model)
    working = [layer for layer in classifier._flatten_layers() if not isinstance(layer, idle)]
    if all(layer.compute_dtype == "float32" for layer in working):
        return classifier
    return rebuild(classifier, "float32")
