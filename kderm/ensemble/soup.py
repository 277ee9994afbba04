"""A soup: one model whose weights are the mean of the members' weights.

One member's cost instead of m. Whether it is any good is a question for images that no member was
trained on; `kderm.ensemble.select` asks it. Members of different folds begin from the same
pretrained backbone but with heads of their own, and drift apart as they train, so it may not be.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from kderm.data.augment import plain_colours
from kderm.data.warp import Warp
from kderm.errors import UserError
from kderm.models.classifier import input_size, load_classifier


def uniform_soup(paths: Sequence[Path]) -> keras.Model:
    """The classifier whose every weight is the mean over the members' files.

    Source: Wortsman et al. 2022, arXiv:2203.05482, the uniform soup. Differs: its ingredients saw
    different training images (the folds), and each class's row of the head began differently.

    Args:
        paths: members of one architecture.

    Raises:
        UserError: members of different architecture.
    """
    soup = load_classifier(paths[0])
    totals = [weight.astype(np.float64) for weight in soup.get_weights()]
    for path in paths[1:]:
        weights = load_classifier(path).get_weights()
        if [weight.shape for weight in weights] != [total.shape for total in totals]:
            raise UserError(
                f"Weights can only be averaged over members of one architecture. Received: "
                f"{paths[0]} and {path}, whose weights have different shapes."
            )
        totals = [total + weight for total, weight in zip(totals, weights, strict=True)]
    soup.set_weights([(total / len(paths)).astype(np.float32) for total in totals])
    return soup


def refresh_statistics(
    classifier: keras.Model,
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    frame: tuple[int, int],
    transform: np.ndarray,
) -> int:
    """Estimate the batch normalisations' statistics anew: averaged weights have others.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2. Labels play no part.

    Args:
        classifier: changed in place; must run on Keras' layers (`kderm.models.native` comes later).
        batches: frames uint8 (b, H, W, 3) with encoded metadata float32 (b, d) or None.
        frame: (H, W).
        transform: float32 (2, 3), the view that is shown.

    Returns:
        How many layers of batch normalisation there were; with none nothing is done.
    """
    layers = classifier._flatten_layers()
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    dropouts = [layer for layer in classifier._flatten_layers() if hasattr(layer, "rate")]
    if not norms:
        return 0
    momenta, rates = [one.momentum for one in norms], [one.rate for one in dropouts]
    warp = Warp(input_size(classifier))
    try:
        for one in dropouts:
            one.rate = 0.0
        for number, (frames, metadata) in enumerate(batches):
            for one in norms:
                one.trainable = True
                one.momentum = number / (number + 1)  # the mean over all batches so far
            count = len(frames)
            views = np.broadcast_to(transform, (count, 2, 3)).astype(np.float32)
            pixels = warp(frames, views, plain_colours(count))
            classifier(pixels if metadata is None else [pixels, metadata], training=True)
    finally:
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
        for one, rate in zip(dropouts, rates, strict=True):
            one.rate = rate
    return len(norms)
