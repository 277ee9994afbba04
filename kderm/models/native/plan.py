"""From a graph to operations, in order: which nodes become one, and where each value ends.

Neighbours that become one operation: zero padding and the convolution behind it, batch
normalisation, its activation and the gate behind it. A layer that someone looks into stays on its
own and runs as Keras' call (see `kderm.explain.taps`).
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import keras
import torch

from kderm.models.native import operations
from kderm.models.native.convolution import Convolution
from kderm.models.native.gated import GatedNormalization
from kderm.models.native.graph import Graph, Node
from kderm.models.native.inference import Planned, fold
from kderm.models.native.normalization import Normalization
from kderm.models.native.operations import (
    ACTIVATIONS,
    KerasCall,
    Operation,
    Pass,
    Product,
    UnknownSetting,
    activation_of,
)

LAYERS = keras.layers


@dataclass(frozen=True)
class Step:
    """An operation with the slots that it reads and writes, and those that nobody needs after."""

    run: Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    last_read: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Steps from the inputs' slots to the outputs'."""

    steps: list[Step]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    slots: int
    is_mirrored: bool

    def __call__(self, run: Pass, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run all steps on tensors as `operations.from_keras` gives them."""
        values: list[Any] = [None] * self.slots
        for slot, value in zip(self.inputs, inputs, strict=True):
            values[slot] = self.turned(value)
        for step in self.steps:
            found = step.run(run, *[values[slot] for slot in step.inputs])
            if len(step.outputs) == 1:
                values[step.outputs[0]] = found
            else:
                for slot, value in zip(step.outputs, found, strict=True):
                    values[slot] = value
            for slot in step.last_read:
                values[slot] = None
        return [self.turned(values[slot]) for slot in self.outputs]

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """A feature map turned by half a circle if the plan works on such."""
        return x.flip(2, 3) if self.is_mirrored and x.ndim == 4 else x


def make_plan(
    graph: Graph, apart: Set[int] = frozenset(), *, without_gradients: bool = False
) -> Plan:
    """The operations of a graph.

    Args:
        graph: what `graph.flatten` gives.
        apart: ids of layers that must be called through Keras.
        without_gradients: for passes that neither train nor ask for gradients.
    """
    steps = _Planner(graph, apart).steps()
    is_mirrored = _gains_from_mirroring(steps, graph)
    if is_mirrored:
        for operation, _, _ in steps:
            if hasattr(operation, "mirror"):
                operation.mirror()
    if without_gradients:
        steps = fold(steps, graph.outputs)
    else:
        for operation, _, _ in steps:
            if isinstance(operation, Convolution):
                operation.lay_out()
    return _finished(steps, graph, is_mirrored)


def _gains_from_mirroring(steps: list[Planned], graph: Graph) -> bool:
    """Whether to run on maps turned by half a circle, with turned kernels.

    TensorFlow's "same" padding puts the odd zero last, torch's convolutions put as many before as
    behind, so that the map is copied first. Turned, the odd zero comes first, and what torch adds
    behind is read by nobody.
    """
    gains = False
    for operation, inputs, outputs in steps:
        if not any(len(graph.shapes[slot]) == 4 for slot in (*inputs, *outputs)):
            continue
        draws = isinstance(operation, operations.Dropout) and operation.draws_by_place
        if draws or isinstance(operation, (KerasCall, operations.MaxPooling)):
            return False
        if isinstance(operation, Convolution):
            sides = graph.shapes[inputs[0]][1:3]
            if None in sides or operation.copies(*sides, turned=True):
                return False
            gains = gains or operation.copies(*sides, turned=False)
    return gains


def _finished(steps: list[Planned], graph: Graph, is_mirrored: bool) -> Plan:
    done: list[Step] = []
    needed = set(graph.outputs)
    for run, inputs, outputs in reversed(steps):
        last_read = tuple(dict.fromkeys(slot for slot in inputs if slot not in needed))
        needed.update(inputs)
        done.append(Step(run, inputs, outputs, last_read))
    return Plan(done[::-1], graph.inputs, graph.outputs, len(graph.shapes), is_mirrored)


class _Planner:
    def __init__(self, graph: Graph, apart: Set[int]) -> None:
        self.graph, self.apart = graph, apart
        self.uses = graph.uses()
        self.readers = {slot: node for node in graph.nodes for slot in node.inputs}
        self.taken: set[int] = set()

    def steps(self) -> list[Planned]:
        found = []
        for node in self.graph.nodes:
            if id(node) not in self.taken:
                operation, last = self.operation(node)
                found.append((operation, node.inputs, last.outputs))
        return found

    def operation(self, node: Node) -> tuple[Operation, Node]:
        """The operation that begins at `node`, and the node that it ends at."""
        layer = node.operation
        if not self.is_native(node):
            return KerasCall(node), node
        try:
            if type(layer) is LAYERS.ZeroPadding2D:
                behind = self.only_reader(node)
                unpadded = behind and type(behind.operation) in CONVOLUTIONS
                if unpadded and behind.operation.padding == "valid":
                    operation = Convolution(behind.operation, before=layer)
                    self.taken.add(id(behind))
                    return operation, behind
            if type(layer) is LAYERS.BatchNormalization:
                return self.normalization(node)
            return OPERATIONS[type(layer)](layer), node
        except UnknownSetting:
            return KerasCall(node), node

    def normalization(self, node: Node) -> tuple[Operation, Node]:
        """A batch normalisation, with the activation and the gate behind it."""
        behind = self.only_reader(node)
        activation = self.activation(behind) if behind else None
        norm = Normalization(node.operation, len(self.graph.shapes[node.inputs[0]]), activation)
        end = node if activation is None else behind
        gate, product = self.gate(end)
        made = [OPERATIONS[type(one.operation)](one.operation) for one in gate]
        if end is not node:
            self.taken.add(id(end))
        if product is None:
            return norm, end
        self.taken.update(id(one) for one in (*gate, product))
        return GatedNormalization(norm, made, Product(product.operation)), product

    def gate(self, node: Node) -> tuple[list[Node], Node | None]:
        """The nodes from `node`'s result to the gate that it is multiplied with, and the product.

        That is squeeze-and-excite: mean, convolutions of 1 x 1, product.
        """
        (slot,) = node.outputs
        readers = [one for one in self.graph.nodes if slot in one.inputs]
        pools = [one for one in readers if type(one.operation) is LAYERS.GlobalAveragePooling2D]
        products = [one for one in readers if type(one.operation) is LAYERS.Multiply]
        if len(readers) != 2 or self.uses[slot] != 2 or not (pools and products):
            return [], None
        found, product = pools, products[0]
        kinds = (LAYERS.Reshape, LAYERS.Conv2D)
        while (behind := self.only_reader(found[-1])) and type(behind.operation) in kinds:
            found.append(behind)
        ends = behind is product and self.is_native(product) and self.is_native(found[0])
        dtype = node.operation.compute_dtype
        same = all(one.operation.compute_dtype == dtype for one in (found[0], product))
        plain = all(_is_pointwise(one.operation) for one in found[1:])
        # A gate of one channel for all of them is a product like any other.
        sides, channels = (self.graph.shapes[one.outputs[0]][1:] for one in (found[-1], node))
        plain = plain and sides == (1, 1, channels[-1])
        return (found, product) if ends and same and plain else ([], None)

    def is_native(self, node: Node) -> bool:
        layer = node.operation
        return (
            type(layer) in KNOWN
            and id(layer) not in self.apart
            and node.is_plain
            and len(node.outputs) == 1
            and computes_plainly(layer)
            and self.has_layout(node)
        )

    def has_layout(self, node: Node) -> bool:
        """Whether the layer means the same where feature maps have their channels first."""
        shapes = [self.graph.shapes[slot] for slot in node.inputs]
        if type(node.operation) is LAYERS.Dense:
            return len(shapes[0]) != 4
        if type(node.operation) is LAYERS.Reshape:
            return len(shapes[0]) == 2 or shapes[0][1:3] == (1, 1)
        merges = type(node.operation) in (LAYERS.Add, LAYERS.Multiply)
        return not merges or len({len(shape) for shape in shapes}) == 1

    def only_reader(self, node: Node) -> Node | None:
        """The one node that reads what `node` gives, if it may become one with it."""
        (slot,) = node.outputs
        behind = self.readers.get(slot)
        alone = self.uses[slot] == 1 and behind is not None
        same = alone and behind.operation.compute_dtype == node.operation.compute_dtype
        return behind if same and self.is_native(behind) else None

    def activation(self, node: Node) -> Callable | None:
        """The function of a node that is an activation and nothing else."""
        try:
            return activation_function(node.operation)
        except UnknownSetting:
            return None


def _is_pointwise(layer: Any) -> bool:
    """Whether a layer of a gate works on (n, c, 1, 1), and has an operation."""
    if type(layer) is LAYERS.Reshape:
        return tuple(layer.target_shape)[:-1] == (1, 1)
    known = layer.activation in ACTIVATIONS and layer.data_format == "channels_last"
    return known and layer.kernel_size == (1, 1) and layer.strides == (1, 1)


def computes_plainly(layer: Any) -> bool:
    """Whether the layer computes in floating point with its own variables and nothing beside."""
    return (
        layer.quantization_mode is None
        and not getattr(layer, "lora_enabled", False)
        and layer.activity_regularizer is None
        and layer.autocast
        and layer.compute_dtype in ("float32", "float16", "bfloat16", "float64")
    )


def activation_function(layer: Any) -> Callable | None:
    """torch's function for an Activation or a ReLU; None for the identity and other layers.

    Raises:
        UnknownSetting: an activation that torch does not have here.
    """
    if type(layer) is LAYERS.Activation:
        return activation_of(layer.activation)
    if type(layer) is LAYERS.ReLU:
        bends = layer.negative_slope or layer.threshold
        if bends or layer.max_value not in (None, 6):
            raise UnknownSetting
        function = keras.activations.relu if layer.max_value is None else keras.activations.relu6
        return ACTIVATIONS[function]
    return None


def _applied(layer: Any) -> Operation:
    function = activation_function(layer)
    return operations.Apply(layer, function)


CONVOLUTIONS = (LAYERS.Conv2D, LAYERS.DepthwiseConv2D)
# Exact types: a subclass may mean something else by `call`.
OPERATIONS: dict[type, Callable[[Any], Operation]] = {
    LAYERS.Conv2D: Convolution,
    LAYERS.DepthwiseConv2D: Convolution,
    LAYERS.ZeroPadding2D: operations.ZeroPadding,
    LAYERS.MaxPooling2D: operations.MaxPooling,
    LAYERS.GlobalAveragePooling2D: operations.GlobalAverage,
    LAYERS.Reshape: operations.AsMap,
    LAYERS.Activation: _applied,
    LAYERS.ReLU: _applied,
    LAYERS.Add: operations.Sum,
    LAYERS.Multiply: operations.Product,
    LAYERS.Dropout: operations.Dropout,
    LAYERS.Rescaling: operations.Rescaling,
    LAYERS.Dense: operations.Linear,
}
KNOWN = {LAYERS.BatchNormalization, *OPERATIONS}
