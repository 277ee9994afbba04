"""Getting at a feature map in the middle of a classifier, without changing it.

The lowest layer of the room: names of the layers that can be looked into, and the tap itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from kderm.errors import UserError, unknown_name

# The layer whose input is the backbone's last feature map; see `kderm.models.classifier`.
POOL = "pool"


def feature_layers(classifier: keras.Model) -> list[str]:
    """Names of the layers that `layer` may be: those whose output is (n, h, w, c), in order."""
    return [
        layer.name
        for layer in classifier.layers
        if not isinstance(layer, keras.layers.InputLayer) and gives_feature_map(layer)
    ]


def find_layer(classifier: keras.Model, name: str | None) -> tuple[keras.layers.Layer, bool]:
    """The layer to tap, and whether at its input.

    Args:
        classifier: the member.
        name: a layer whose output is a feature map; None: what is pooled.

    Raises:
        UserError: no such layer (nearest ones named), or one without a feature map.
    """
    by_name = {layer.name: layer for layer in classifier.layers}
    if name is None and POOL in by_name:
        return by_name[POOL], True
    known = feature_layers(classifier)
    if name is None:
        raise UserError(
            f"The model has no layer called {POOL!r}, so name the layer to look into: one of "
            f"{', '.join(known[-12:]) or 'none (it has no feature map)'}."
        )
    if name not in by_name:
        raise unknown_name("layer", name, known)
    if name not in known:
        raise UserError(
            "A class-activation map needs a layer whose output is a feature map (n, h, w, c). "
            f"Received: {name!r}, which gives none. The last ones that do: {', '.join(known[-8:])}."
        )
    return by_name[name], False


def gives_feature_map(layer: keras.layers.Layer) -> bool:
    """Whether every output of the layer is (n, h, w, c)."""
    outputs = [output for node in layer._inbound_nodes for output in node.output_tensors]
    return bool(outputs) and all(len(output.shape) == 4 for output in outputs)


@contextlib.contextmanager
def tapped(layer: keras.layers.Layer, tap: Callable, taps_input: bool) -> Iterator[None]:
    """Within the block, what passes through `layer` goes through `tap` first (or last).

    The bound `call` of the one object is exchanged, which `kderm.models.native` sees. A model with
    a second output would leave nodes in the classifier's graph, and JAX could not get at its
    middle.
    """
    call, own = layer.call, layer.__dict__.get("call")

    def tapped_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if taps_input:
            return call(tap(inputs), *args, **kwargs)
        return tap(call(inputs, *args, **kwargs))

    layer.__dict__["call"] = tapped_call
    try:
        yield
    finally:
        if own is None:
            del layer.__dict__["call"]
        else:
            layer.__dict__["call"] = own
