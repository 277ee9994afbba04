"""Runs a model's plans: which one is right for a call, and what has to happen after it."""

from typing import Any

import keras
import torch

from kderm.models.native.graph import flatten
from kderm.models.native.normalization import move_statistics
from kderm.models.native.operations import Pass, from_keras, to_keras
from kderm.models.native.plan import Plan, make_plan


class Runner:
    """The native graph of one model; plans are made when first needed."""

    def __init__(self, model: keras.Model) -> None:
        self.graph = flatten(model)
        self.layers = [node.operation for node in self.graph.nodes]
        self.plans: dict[tuple, Plan] = {}

    def __call__(self, inputs: list[Any], training: bool) -> list[torch.Tensor]:
        """The model's outputs in Keras' layout."""
        learns = training or any(x.requires_grad for x in inputs)
        plan = self.plan(without_gradients=not learns and not torch.is_grad_enabled())
        run = Pass(training)
        outputs = plan(run, [from_keras(x) for x in inputs])
        if run.moved:
            move_statistics(run)
        return [to_keras(x) for x in outputs]

    def plan(self, *, without_gradients: bool = False) -> Plan:
        """The plan of a call: layers whose own `call` was exchanged are called by it.

        Args:
            without_gradients: for passes that neither train nor ask for gradients.
        """
        apart = frozenset(id(layer) for layer in self.layers if "call" in vars(layer))
        key = apart, without_gradients
        if key not in self.plans:
            self.plans[key] = make_plan(self.graph, apart, without_gradients=without_gradients)
        return self.plans[key]
