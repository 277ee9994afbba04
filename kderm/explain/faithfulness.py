"""Whether maps deserve trust: they must hang on the weights, and on what moves the answer.

Three sanity checks of a member's maps on its plain view: permuted weights must give other maps
(Adebayo et al. 2018, arXiv:1810.03292); blurring what a map points at must lower the probability
faster than blurring at random, and showing it first must raise it faster (deletion and insertion,
Petsiuk et al. 2018, arXiv:1806.07421, section 4.2. Differs: blurred pixels in both, since black
ones are a sight of their own).
"""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage
from scipy.special import softmax
from scipy.stats import spearmanr

from kderm.explain.activation_maps import Evidence

# How much is blurred away, as a share of the input's side.
BLUR = 0.1


def check_maps(
    evidence: Evidence,
    pixels: np.ndarray,
    classes: np.ndarray,
    rng: np.random.Generator,
    *,
    metadata: np.ndarray | None = None,
    steps: int = 16,
) -> pd.DataFrame:
    """The three checks for n images.

    Args:
        evidence: the member's maps.
        pixels: float32 (n, s, s, 3), 0..255.
        classes: int (n,), the class that each map is for.
        rng: draws the random orders and permutes the weights.
        metadata: float32 (n, d), for a member that takes them.
        steps: stages of the curves.

    Returns:
        n rows: deletion and insertion (mean probability of the class over the curve), the same
        with the suffix _random for a random order of equally large places, and rank_correlation
        (Spearman's, of the map with that of the permuted weights; NaN where a map is constant).
    """
    weights = (np.eye(evidence.classes)[classes] - 1.0 / evidence.classes)[:, None]
    maps = evidence(pixels, weights, metadata)[:, 0]
    cells = maps.shape[1] * maps.shape[2]
    orders = [rng.permutation(cells) for _ in range(len(maps))]
    chance = np.array(orders, np.float64).reshape(maps.shape)
    found = {}
    for name, insert in (("deletion", False), ("insertion", True)):
        for suffix, one in (("", maps), ("_random", chance)):
            curves = perturbation_curves(
                *(evidence.classifier, pixels, one, classes),
                **{"insert": insert, "steps": steps, "metadata": metadata},
            )
            found[name + suffix] = curves.mean(axis=1)
    with permuted_weights(evidence.classifier, rng):
        other = Evidence(evidence.classifier, evidence.layer, evidence.batch_size)
        strange = other(pixels, weights, metadata)[:, 0]
    pairs = zip(maps, strange, strict=True)
    found["rank_correlation"] = np.array([_rank_correlation(*pair) for pair in pairs])
    return pd.DataFrame(found)


def perturbation_curves(
    classifier: keras.Model,
    pixels: np.ndarray,
    maps: np.ndarray,
    classes: np.ndarray,
    *,
    insert: bool,
    steps: int = 16,
    metadata: np.ndarray | None = None,
) -> np.ndarray:
    """The probability of a class while more and more of the picture is blurred, or shown.

    Args:
        classifier: the member, logits (n, k).
        pixels: float32 (n, s, s, 3), 0..255.
        maps: float (n, h, w); the highest places come first.
        classes: int (n,).
        insert: start from the blurred picture and show; else start from the picture and blur.
        steps: equal parts of the picture, one after the other.
        metadata: float32 (n, d), for a member that takes them.

    Returns:
        float64 array (n, steps + 1): from nothing changed to all.
    """
    side = pixels.shape[1]
    sigma = (0, BLUR * side, BLUR * side, 0)
    blurred = ndimage.gaussian_filter(np.asarray(pixels, np.float32), sigma)
    first, then = (blurred, pixels) if insert else (pixels, blurred)
    ranks = np.stack([_ranks(one, side) for one in maps])  # 0 is the highest
    curves = np.empty((len(pixels), steps + 1))
    for step in range(steps + 1):
        changed = (ranks < step / steps * side * side)[..., None]
        inputs = np.where(changed, then, first).astype(np.float32)
        given = inputs if metadata is None else [inputs, np.asarray(metadata, np.float32)]
        logits = np.asarray(classifier.predict_on_batch(given), np.float64)
        curves[:, step] = softmax(logits, axis=1)[np.arange(len(inputs)), classes]
    return curves


@contextlib.contextmanager
def permuted_weights(classifier: keras.Model, rng: np.random.Generator) -> Iterator[None]:
    """Within the block each weight array has its numbers in another order; put back afterwards."""
    kept = [np.array(value) for value in classifier.get_weights()]
    try:
        classifier.set_weights(
            [rng.permutation(value.ravel()).reshape(value.shape) for value in kept]
        )
        yield
    finally:
        classifier.set_weights(kept)


def _ranks(evidence: np.ndarray, side: int) -> np.ndarray:
    """The place in the order of each pixel (side, side) of a map (h, w), smoothly enlarged."""
    image = Image.fromarray(np.ascontiguousarray(evidence, np.float32))
    large = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).ravel()
    ranks = np.empty(large.size, int)
    ranks[np.argsort(-large, kind="stable")] = np.arange(large.size)
    return ranks.reshape(side, side)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
