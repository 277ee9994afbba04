"""A functional Keras model as a flat list of nodes over numbered slots, nested models taken apart.

The lowest layer of the room: knows Keras' graph, no torch and no arithmetic.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.models.functional import Functional


@dataclass(frozen=True)
class Node:
    """One call of a layer or operation.

    Attributes:
        operation: the layer or operation.
        arguments: Keras' record of its arguments, with symbolic tensors in them.
        tensors: the symbolic tensors among them, in order.
        inputs: their slots.
        outputs: the slots of what comes out.
    """

    operation: Any
    arguments: Any
    tensors: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def is_plain(self) -> bool:
        """Whether nothing but tensors was given; `training` is given anew at each call."""
        known = {id(tensor) for tensor in self.tensors}
        kwargs = {k: value for k, value in self.arguments.kwargs.items() if k != "training"}
        given = keras.tree.flatten([self.arguments.args, kwargs])
        return all(value is None or id(value) in known for value in given)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be run.

    Attributes:
        nodes: without the input layers.
        inputs: slots of the model's inputs.
        outputs: slots of its outputs.
        shapes: slot -> shape in Keras' layout, None where it is open.
    """

    nodes: list[Node]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int | None, ...], ...]

    def uses(self) -> Counter:
        """Slot -> how often it is read; the model's outputs count as read."""
        read = [slot for node in self.nodes for slot in node.inputs]
        return Counter([*read, *self.outputs])


def flatten(model: keras.Model) -> Graph:
    """The graph of a functional model."""
    builder = _Builder()
    inputs = [builder.new_slot(tensor) for tensor in model.inputs]
    outputs = builder.add(model, inputs)
    return Graph(builder.nodes, tuple(inputs), tuple(outputs), tuple(builder.shapes))


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.shapes: list[tuple] = []

    def new_slot(self, tensor: Any) -> int:
        self.shapes.append(tuple(tensor.shape))
        return len(self.shapes) - 1

    def add(self, model: keras.Model, inputs: list[int]) -> list[int]:
        """Append the nodes of `model` on the slots `inputs`; the slots of its outputs."""
        slots = {id(tensor): slot for tensor, slot in zip(model.inputs, inputs, strict=True)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input or any(id(tensor) not in slots for tensor in node.input_tensors):
                    continue
                read = tuple(slots[id(tensor)] for tensor in node.input_tensors)
                inner = inner_graph(node.operation)
                if inner is not None and len(inner.inputs) == len(read):
                    written = self.add(inner, list(read))
                else:
                    written = [self.new_slot(tensor) for tensor in node.outputs]
                    tensors = tuple(node.input_tensors)
                    self.nodes.append(
                        Node(node.operation, node.arguments, tensors, read, tuple(written))
                    )
                for tensor, slot in zip(node.outputs, written, strict=True):
                    slots[id(tensor)] = slot
        return [slots[id(tensor)] for tensor in model.outputs]


def inner_graph(operation: Any) -> keras.Model | None:
    """The functional graph behind a nested model; None for a layer or a model with its own call."""
    if not isinstance(operation, keras.Model) or "call" in vars(operation):
        return None
    if type(operation) is keras.Sequential:
        return getattr(operation, "_functional", None)
    functional = isinstance(operation, Functional) and type(operation).call is Functional.call
    return operation if functional else None
