"""The member network: backbone -> pooling -> dropout -> logits, a plain functional Keras model.

Takes float32 RGB (n, size, size, 3) in 0..255, and where it was trained with them the encoded
metadata (n, d) beside; gives float32 logits (n, k). Views, warp and softmax are outside. What is
saved consists of Keras' own layers (and the two below), and loads under any backend.
"""

import os
from typing import Any

import keras
from keras import ops

from kderm.models.backbones import build_backbone
from kderm.models.keras_file import load_keras_file, rebuild
from kderm.models.presets import find_preset
from kderm.models.stages import HEAD, stage_of

# Units of the two dense layers that the metadata go through.
METADATA_UNITS = (64, 32)


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


@keras.saving.register_keras_serializable(package="kderm")
class MultiSampleDropout(keras.layers.Layer):
    """Dropout (n, c) -> (n, c) whose result is the mean over several masks, in float32.

    What follows is linear, so its answer is the mean of its answers to each mask: the logits
    averaged over the masks, for the price of one Dense. When not training it changes nothing.

    Source: Inoue 2019, arXiv:1905.09788. Differs: the logits are averaged, not the losses, as in
    the winning entry of ISIC 2020 (Ha et al. 2020, arXiv:2010.05351).
    """

    def __init__(self, rate: float, samples: int, seed: int | None = None, **kwargs: Any) -> None:
        """Args:
        rate: share of the features that each mask drops, in [0, 1).
        samples: number of masks.
        seed: of the draws; None: drawn.
        **kwargs: of `keras.layers.Layer`.
        """
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.rate = rate
        self.samples = samples
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, features: Any, training: bool = False) -> Any:
        """`features` (n, c) times the mean mask."""
        if not training or self.rate == 0:
            return features
        shape = (self.samples, *ops.shape(features))
        mask = keras.random.dropout(ops.ones(shape), self.rate, seed=self.seed_generator)
        return features * ops.mean(mask, axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """As the input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What a saved model needs to rebuild the layer."""
        own = {"rate": self.rate, "samples": self.samples, "seed": self.seed}
        return super().get_config() | own


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
    dropout_samples: int = 1,
    metadata_width: int = 0,
    weights: str = "preset",
) -> keras.Model:
    """A classifier, float32 (n, size, size, 3) in 0..255 -> float32 logits (n, classes).

    With metadata the inputs are [image, metadata]: two dense layers on the metadata, joined to the
    pooled features. Layers follow the global dtype policy, but input scaling and the head compute
    in float32 under every policy. The head's layers have the names in `HEAD`.

    Args:
        preset: PROVIDER/NAME of the registry, or file/PATH.keras.
        size: side of the input in pixels.
        classes: number of logits.
        pooling: "avg", "max" or "gem".
        dropout: rate before the logits.
        dropout_samples: masks whose logits are averaged in training; 1 is plain dropout.
        metadata_width: d of the encoded metadata (n, d); 0: the image alone.
        weights: "preset", "none", or the path of a preset folder or weights file.

    Raises:
        UserError: unknown preset, or weights that cannot be had or do not fit.
    """
    backbone = build_backbone(find_preset(preset), size, weights)
    x = _POOLING[pooling](name="pool", dtype="float32")(backbone.output)
    inputs = backbone.input
    if metadata_width:
        metadata, features = _metadata_branch(metadata_width)
        inputs = [backbone.input, metadata]
        x = keras.layers.Concatenate(name="image_and_metadata", dtype="float32")([x, features])
    if dropout_samples > 1:
        x = MultiSampleDropout(dropout, dropout_samples, name="dropout")(x)
    else:
        x = keras.layers.Dropout(dropout, name="dropout", dtype="float32")(x)
    logits = keras.layers.Dense(classes, name="logits", dtype="float32")(x)
    return keras.Model(inputs, logits, name="classifier")


def _metadata_branch(width: int) -> tuple[Any, Any]:
    """The input (n, width) and the features (n, METADATA_UNITS[-1]) made of it."""
    metadata = keras.Input((width,), dtype="float32", name="metadata")
    x = metadata
    for name, units in zip(("metadata_hidden", "metadata_features"), METADATA_UNITS, strict=True):
        x = keras.layers.Dense(units, "relu", name=name, dtype="float32")(x)
    return metadata, x


def input_size(classifier: keras.Model) -> int:
    """Side in pixels of the images that `classifier` takes."""
    return int(classifier.inputs[0].shape[1])


def metadata_width(classifier: keras.Model) -> int:
    """d of the encoded metadata (n, d) that `classifier` takes; 0 if it takes none."""
    return int(classifier.inputs[1].shape[1]) if len(classifier.inputs) > 1 else 0


def set_backbone_trainable(
    classifier: keras.Model, trainable: bool, frozen_stages: int = 0
) -> None:
    """Freeze or free all but the head; frozen batch normalisation uses its moving statistics.

    Args:
        classifier: what `build_classifier` gives, or a member read from its file.
        trainable: whether the backbone learns.
        frozen_stages: the first stages of it, by `kderm.models.stages`, that never do.
    """
    stages = stage_of(classifier) if frozen_stages else {}
    for layer in classifier.layers:
        free = trainable and (not frozen_stages or stages[layer.name] > frozen_stages)
        layer.trainable = free or layer.name in HEAD


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
