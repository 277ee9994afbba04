"""The door of the room: a classifier that runs on its native graph, and the way back.

Only the bound `call` of the one model object changes: class, config, variables and paths stay, so a
saved member knows nothing of it and loads under any backend. torch is imported when there is
something to swap.
"""

from typing import Any

import keras
from keras.src.backend.common.stateless_scope import in_stateless_scope
from keras.src.models.functional import Functional


def use_native_graph(model: keras.Model) -> bool:
    """Run `model` on torch operations, in place; whether it does.

    Outputs, gradients and moving statistics stay equal up to rounding. Layers that have no
    operation run as themselves. With another backend than torch, or a model that is no functional
    graph, nothing happens. A compiled training step need not be rebuilt. `use_keras_layers` undoes
    it.
    """
    if keras.backend.backend() != "torch" or not _is_plain_graph(model):
        return False
    if not runs_natively(model):
        from kderm.models.native.runner import Runner

        model.__dict__["call"] = NativeCall(model, Runner(model))
    return True


def use_keras_layers(model: keras.Model) -> bool:
    """Undo `use_native_graph`; whether there was something to undo."""
    if not runs_natively(model):
        return False
    del model.__dict__["call"]
    return True


def runs_natively(model: keras.Model) -> bool:
    """Whether `use_native_graph` holds for this object."""
    return isinstance(model.__dict__.get("call"), NativeCall)


class NativeCall:
    """What stands in for a functional model's `call`."""

    def __init__(self, model: keras.Model, runner: Any) -> None:
        self.model, self.runner = model, runner

    def __call__(
        self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any
    ) -> Any:
        """As `keras.Model.call` of a functional model."""
        model = self.model
        if kwargs or in_stateless_scope() or _has_mask(inputs, mask):
            return type(model).call(model, inputs, training=training, mask=mask, **kwargs)
        outputs = self.runner(model._standardize_inputs(inputs), bool(training))
        packed = keras.tree.pack_sequence_as(model._outputs_struct, outputs)
        return packed[0] if isinstance(packed, (list, tuple)) and len(packed) == 1 else packed


def _is_plain_graph(model: keras.Model) -> bool:
    """Whether `model` is a functional graph without layers that make masks."""
    makers = (keras.layers.Masking, keras.layers.Embedding)
    functional = isinstance(model, Functional) and type(model).call is Functional.call
    return functional and not any(isinstance(one, makers) for one in model._flatten_layers())


def _has_mask(inputs: Any, mask: Any) -> bool:
    if mask is not None and any(one is not None for one in keras.tree.flatten(mask)):
        return True
    return any(getattr(x, "_keras_mask", None) is not None for x in keras.tree.flatten(inputs))
