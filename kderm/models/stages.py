"""The stages of a member: how far down each layer stands, for freezing and layer-wise rates.

Stage s is the part of the backbone whose feature maps have been halved s times, so its side is
about size / 2^s; the head stands above all. Works on the graph alone, whatever the backbone.
"""

import math

import keras

# The layers after the backbone, by name; all that has to do with metadata is among them.
HEAD = (
    "pool",
    "metadata",
    "metadata_hidden",
    "metadata_features",
    "image_and_metadata",
    "dropout",
    "logits",
)

# Only these shrink a map step by step. A global pooling, as in squeeze-and-excite, leads aside.
_STRIDED = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
)


def stage_of(classifier: keras.Model) -> dict[str, int]:
    """Layer name -> stage, 0 at full resolution; the head's layers are one above the backbone.

    A side branch (squeeze-and-excite) has the stage of the layer that it leaves from.

    Args:
        classifier: what `build_classifier` gives, or a member read from its file.
    """
    of_tensor: dict[int, int] = {}
    stages: dict[str, int] = {}
    nodes = classifier._nodes_by_depth
    for depth in sorted(nodes, reverse=True):  # the inputs are deepest
        for node in nodes[depth]:
            layer = node.operation
            stage = max((of_tensor[id(tensor)] for tensor in node.input_tensors), default=0)
            if isinstance(layer, _STRIDED):
                stage += int(math.log2(max(layer.strides)))
            of_tensor |= {id(tensor): stage for tensor in node.output_tensors}
            if isinstance(layer, keras.Layer):
                stages[layer.name] = stage
    head = 1 + max(stage for name, stage in stages.items() if name not in HEAD)
    return {name: head if name in HEAD else stage for name, stage in stages.items()}


def rate_factors(classifier: keras.Model, layer_decay: float) -> dict[str, float]:
    """Path of each variable -> factor on the learning rate: 1 in the head, less below.

    Args:
        classifier: as for `stage_of`.
        layer_decay: rate of a stage as a factor of the stage above it, in (0, 1].
    """
    stages = stage_of(classifier)
    head = max(stages.values())
    return {
        variable.path: layer_decay ** (head - stages[layer.name])
        for layer in classifier.layers
        for variable in layer.variables
    }
