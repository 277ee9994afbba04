"""The masks of a Dropout layer with a noise shape, as Keras draws them, without asking the device.

Keras keeps a generator's state in a variable and reads it at every draw: on a GPU each layer would
wait for all the work given before it. Here the host counts along, and reads the state only when
someone else has changed it. The variable is moved on all the same, so that saving and resuming see
no difference.
"""

from collections.abc import Sequence

import keras
import torch


class Masks:
    """What `keras.random.dropout` multiplies by, with a `SeedGenerator` and a noise shape."""

    def __init__(self, layer: keras.layers.Dropout) -> None:
        self.layer = layer
        self.known: tuple[torch.Tensor, int] | None = None  # the state's tensor and its version
        self.seed = 0
        self.generator: torch.Generator | None = None

    def factors(self, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """0 or 1 / (1 - rate), of `shape`, with dtype and device of `like`."""
        keep = 1.0 - self.layer.rate
        if keep == 0.0:
            return torch.zeros(shape, dtype=like.dtype, device=like.device)
        generator = self.next_generator(like.device)
        share = torch.full(shape, keep, device=like.device)
        return torch.bernoulli(share, generator=generator).to(like.dtype) / keep

    def next_generator(self, device: torch.device) -> torch.Generator:
        """Seeded as Keras would; the state's counter goes up by one."""
        state = self.layer.seed_generator.state._value
        if self.known is None or self.known[0] is not state or self.known[1] != state._version:
            self.seed = sum(state.tolist())
        if self.generator is None or self.generator.device != device:
            self.generator = torch.Generator(device)
        self.generator.manual_seed(self.seed & 0xFFFFFFFF)
        with torch.no_grad():
            state[1].add_(1)
        self.seed, self.known = self.seed + 1, (state, state._version)
        return self.generator
