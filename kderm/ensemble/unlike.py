"""How unlike its training data an image is, from the features that the members see in it.

Each member's features of the images that it held out are described by one Gaussian; the score of a
new image is how far it lies from them, averaged over the members. No Keras: the features come
from `kderm.ensemble.feature_pass`, the fit is started by `kderm.ensemble.unlike_fit`.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kderm.atomic import atomic_path
from kderm.counting import counted
from kderm.ensemble.bounded import ARRAYS_BYTES, load_arrays, read_bounded
from kderm.ensemble.group_parts import group_parts
from kderm.errors import UserError

if TYPE_CHECKING:
    from kderm.ensemble.bundle import Bundle

FILE = "unlike.npz"
# Directions that are described one by one; the rest of the features share one variance.
DIRECTIONS = 64
# Share of images like those of training that are warned of.
FALSE_WARNINGS = 0.01
# Fewer held-out images than this say too little about where the next one lies.
FEWEST_IMAGES = 20
_ARRAYS = ("mean", "directions", "variances", "residual", "centre", "spread")


@dataclass(frozen=True)
class FeatureGaussian:
    """A Gaussian over one member's features: d directions with their variances, and the rest.

    Source of the density: Tipping and Bishop 1999 (probabilistic PCA), doi:10.1111/1467-9868.00196;
    of the distance as a score: Lee et al. 2018, arXiv:1807.03888. Differs: one Gaussian for all
    classes and the pooled layer alone, so that rare classes need no covariance of their own.

    Attributes:
        mean: float32 (c,).
        directions: float32 (d, c), orthonormal rows.
        variances: float32 (d,), above 0.
        residual: variance along every other direction, above 0.
        centre: mean log distance of images that were not used to fit.
        spread: standard deviation of that, above 0.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    residual: float
    centre: float
    spread: float

    def log_distance(self, features: np.ndarray) -> np.ndarray:
        """Log of the mean squared distance a feature, in standard deviations.

        Args:
            features: float (n, c).

        Returns:
            float64 (n,).
        """
        away = np.asarray(features, np.float64) - self.mean
        along = away @ self.directions.T.astype(np.float64)
        rest = np.maximum((away**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squared = (along**2 / self.variances).sum(axis=1) + rest / self.residual
        return np.log(np.maximum(squared / away.shape[1], np.finfo(np.float32).tiny))

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64 (n,): the log distance in standard deviations of held-out images' own."""
        return (self.log_distance(features) - self.centre) / self.spread


@dataclass(frozen=True)
class Unlike:
    """The score of an ensemble.

    Attributes:
        members: one Gaussian a member, in the bundle's order.
        digests: SHA-256 of the members that it was fitted with.
        spread: standard deviation of the members' mean score where one member's is 1.
        threshold: scores at or above it are warned of.
    """

    members: tuple[FeatureGaussian, ...]
    digests: tuple[str, ...]
    spread: float
    threshold: float

    def score(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """Mean over members of how far each image lies from what they held out.

        In standard deviations: around 0 for images like those of training, above `threshold` for
        about 1 % of them. An image's score depends on no other image.

        Args:
            features: for each of m members float (n, c).

        Returns:
            float64 (n,).
        """
        if len(features) != len(self.members):
            raise ValueError(
                f"Expected features of {len(self.members)} members. Received: {len(features)}"
            )
        pairs = list(zip(self.members, features, strict=True))
        for member, own in pairs:
            if own.shape[1:] != member.mean.shape:
                raise UserError(
                    f"The score of unlike images is of {member.mean.size} features. Received: "
                    f"members with {own.shape[-1]}. Copy the whole folder of the run again."
                )
        return np.mean([member.score(own) for member, own in pairs], axis=0) / self.spread


def fit_gaussian(
    features: np.ndarray, groups: np.ndarray, directions: int = DIRECTIONS
) -> tuple[FeatureGaussian, np.ndarray]:
    """Describe one member's features of the images that it held out.

    `centre` and `spread` come from distances of each fifth of the groups to a fit on the others:
    the images that a Gaussian is fitted on lie closer to it than the next ones will.

    Args:
        features: float (n, c), n at least `FEWEST_IMAGES`.
        groups: (n,), lesion or patient of each image.
        directions: the most directions to describe one by one; at most a quarter of n is taken.

    Returns:
        The Gaussian, and the scores float64 (n,) of its own images by the fits without them.
    """
    features = np.asarray(features, np.float64)
    part = group_parts(groups)
    if len(features) < FEWEST_IMAGES or part.max() == 0:
        raise ValueError(
            f"Expected features of at least {FEWEST_IMAGES} images in several groups. Received: "
            f"{features.shape}, {counted(part.max() + 1, 'part')}"
        )
    distances = np.empty(len(features))
    for number in range(part.max() + 1):
        out = part == number
        distances[out] = _described(features[~out], directions).log_distance(features[out])
    centre = float(distances.mean())
    spread = max(float(distances.std()), 1e-6)
    whole = _described(features, directions, centre, spread)
    return whole, (distances - centre) / spread


def fit_unlike(
    features: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
    shared: Sequence[np.ndarray],
    digests: Sequence[str],
) -> Unlike:
    """The score of an ensemble from its members' held-out features.

    Each image was held out by one member, and the threshold is the 99 % quantile of that one's
    score. The mean of all members' scores, which a new image gets, spreads less: by how much is
    told by images that all members look at. All but one were trained on these, which shifts their
    scores; so only the correlation between members is taken from there.

    Args:
        features: for each member float (n_m, c), of the images that it held out.
        groups: for each member (n_m,), the lesion or patient of these images.
        shared: for each member float (s, c), of the same s images.
        digests: SHA-256 of each member's file.
    """
    fitted = [fit_gaussian(*both) for both in zip(features, groups, strict=True)]
    gaussians = tuple(gaussian for gaussian, _ in fitted)
    scores = np.concatenate([own for _, own in fitted])
    threshold = float(np.quantile(scores, 1 - FALSE_WARNINGS))
    pairs = zip(gaussians, shared, strict=True)
    spread = _spread_of_mean(np.stack([gaussian.score(own) for gaussian, own in pairs]))
    return Unlike(gaussians, tuple(digests), spread, threshold)


def write_unlike(path: Path, unlike: Unlike) -> None:
    """Write the score as npz, without pickles."""
    arrays: dict[str, np.ndarray] = {
        "digests": np.array(unlike.digests),
        "ensemble_spread": np.array(unlike.spread),
        "threshold": np.array(unlike.threshold),
    }
    for number, member in enumerate(unlike.members):
        arrays |= {f"{name}_{number}": np.asarray(getattr(member, name)) for name in _ARRAYS}
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def read_unlike(path: Path, sha256: str | None = None) -> Unlike:
    """Read what `write_unlike` wrote.

    Args:
        path: the file.
        sha256: the digest that it must have; None: any.

    Raises:
        UserError: no such file, another one than the bundle's, or a damaged one.
    """
    again = "Copy the whole folder of the run again, or delete that file and run evaluate."
    try:
        content = read_bounded(path, ARRAYS_BYTES)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"Expected the score of unlike images at {path}. Received: {why}. {again}"
        ) from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{path} is not the file that the bundle speaks of (SHA-256). {again}")
    try:
        stored = load_arrays(content)
        digests = tuple(stored["digests"].tolist())
        members = tuple(
            FeatureGaussian(**{name: _plain(stored[f"{name}_{number}"]) for name in _ARRAYS})
            for number in range(len(digests))
        )
        for member in members:
            _check_shapes(member)
        numbers = float(stored["ensemble_spread"]), float(stored["threshold"])
        return Unlike(members, digests, *numbers)
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}. {again}") from None


def expected_warnings(images: int) -> int:
    """As many images like those of training may be warned of by chance, 95 times in 100.

    Args:
        images: how many were scored.
    """
    if not images:
        return 0
    # The binomial's 95 % quantile by its terms; scipy.stats would cost every prediction its import.
    mean, odds = images * FALSE_WARNINGS, np.log(FALSE_WARNINGS / (1 - FALSE_WARNINGS))
    k = np.arange(min(images, int(mean + 10 * np.sqrt(mean) + 20)))
    steps = np.log(images - k) - np.log(k + 1) + odds
    logs = images * np.log1p(-FALSE_WARNINGS) + np.concatenate([[0], steps.cumsum()])
    return int(np.searchsorted(np.exp(logs).cumsum(), 0.95))


def unlike_facts(directory: Path, members: Sequence[str]) -> dict | None:
    """What a bundle says of the score beside it: file, sha256, threshold; None without one.

    Args:
        directory: the bundle's folder.
        members: SHA-256 of the bundle's members, in order; a score of others is none.
    """
    path = directory / FILE
    try:
        unlike = read_unlike(path)
    except UserError:
        return None
    if unlike.digests != tuple(members):
        return None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": FILE, "sha256": digest, "threshold": unlike.threshold}


def unlike_of(bundle: "Bundle") -> Unlike | None:
    """The score that a bundle came with; None for a bundle without one.

    Raises:
        UserError: its file is gone, damaged or another one.
    """
    facts = bundle.facts.unlike
    return None if facts is None else read_unlike(bundle.directory / facts.file, facts.sha256)


def _described(
    features: np.ndarray, directions: int, centre: float = 0.0, spread: float = 1.0
) -> FeatureGaussian:
    """The Gaussian of `features` float64 (n, c)."""
    n, c = features.shape
    mean = features.mean(axis=0)
    away = features - mean
    taken = max(1, min(directions, n // 4, c - 1))
    # The smaller of the two products has the same eigenvalues; only the largest are asked for.
    product = away.T @ away if c <= n else away @ away.T
    from scipy.linalg import eigh

    values, vectors = eigh(product, subset_by_index=[len(product) - taken, len(product) - 1])
    variances = np.maximum(values[::-1], 0.0) / (n - 1)
    along = vectors[:, ::-1].T
    rows = along if c <= n else _orthonormal(along @ away)
    whole = float(np.trace(product)) / (n - 1)
    left = max(whole - float(variances.sum()), 0.0) / max(c - taken, 1)
    # Features that never vary (dead units) must not make every other image infinitely far.
    floor = max(1e-6 * whole / c, 1e-12)
    return FeatureGaussian(
        mean.astype(np.float32),
        rows.astype(np.float32),
        np.maximum(variances, floor).astype(np.float32),
        max(left, floor),
        centre,
        spread,
    )


def _spread_of_mean(scores: np.ndarray) -> float:
    """Standard deviation over images of the mean of the standardised scores (m, s): 1 for equal."""
    spreads = scores.std(axis=1, keepdims=True)
    if scores.shape[1] < 2 or not (spreads > 0).all():
        return 1.0
    standard = (scores - scores.mean(axis=1, keepdims=True)) / spreads
    # Members that say unrelated things would spread by 1 / sqrt(m); never believe less.
    return float(max(standard.mean(axis=0).std(), 1 / np.sqrt(len(scores))))


def _check_shapes(member: FeatureGaussian) -> None:
    known = [np.shape(getattr(member, name)) for name in _ARRAYS]
    d, c = known[1] if len(known[1]) == 2 else (-1, -1)
    if known != [(c,), (d, c), (d,), (), (), ()]:
        raise ValueError(f"arrays of the shapes {known}")


def _orthonormal(rows: np.ndarray) -> np.ndarray:
    """`rows` (d, c), orthogonal to one another, with length 1; those without length stay zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)


def _plain(array: np.ndarray) -> np.ndarray | float:
    return float(array) if array.ndim == 0 else array
