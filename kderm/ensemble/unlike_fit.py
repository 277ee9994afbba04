"""The score of unlike images for a run: one pass of each member over the images it held out.

Writes `unlike.npz` beside the bundle; `write_bundle` puts it into `ensemble.json` with its digest.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kderm.atomic import write_json
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.feature_pass import FeatureForward
from kderm.ensemble.held_out import HeldOut, RunFrames, held_out, read_oof
from kderm.ensemble.unlike import (
    FEWEST_IMAGES,
    FILE,
    fit_unlike,
    read_unlike,
    unlike_facts,
    write_unlike,
)
from kderm.errors import UserError
from kderm.models.classifier import load_classifier
from kderm.run_dir import RunDir

Progress = Callable[[int, int], None]


def ensure_unlike(
    run: RunDir, bundle: Bundle, *, batch_size: int = 32, progress: Progress | None = None
) -> Path:
    """`runs/<run>/unlike.npz`, fitted now unless there is one of the bundle's members.

    Args:
        run: a finished run.
        bundle: its bundle.
        batch_size: images a forward pass.
        progress: called with (images done, images).

    Raises:
        UserError: images that are gone, or too few held out by a member.
    """
    path = run.path / FILE
    if is_of_members(path, bundle):
        return path
    parts = held_out(bundle, read_oof(bundle))
    few = [part for part in parts if len(part) < FEWEST_IMAGES or _one_group(part)]
    if few:
        raise UserError(
            f"The score of unlike images needs {FEWEST_IMAGES} images of several lesions held out "
            f"by each member. Received: {', '.join(str(len(part)) for part in parts)}."
        )
    frames = RunFrames(run, bundle)
    total, features = sum(map(len, parts)), []
    for part in parts:
        before = sum(map(len, features))

        def report(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        features.append(held_out_features(part, bundle, frames, batch_size, report))
    groups = [part.table["group_id"].to_numpy() for part in parts]
    write_unlike(path, fit_unlike(features, groups, [part.sha256 for part in parts]))
    return path


def add_unlike(run: RunDir, *, batch_size: int = 32, progress: Progress | None = None) -> Bundle:
    """The run's bundle with the score of unlike images; fitted and written in if it has none.

    Args:
        run: a finished run with its bundle.
        batch_size: images a forward pass.
        progress: called with (images done, images).

    Raises:
        UserError: as `ensure_unlike`.
    """
    bundle = read_bundle(run.path)
    if bundle.facts.unlike is not None:
        return bundle
    ensure_unlike(run, bundle, batch_size=batch_size, progress=progress)
    found = unlike_facts(run.path, [member.sha256 for member in bundle.facts.members])
    write_json(run.bundle, bundle.facts.model_dump(mode="json") | {"unlike": found})
    return read_bundle(run.path)


def is_of_members(path: Path, bundle: Bundle) -> bool:
    """Whether the file is there, whole, and fitted with the members of the bundle."""
    try:
        return read_unlike(path).digests == tuple(one.sha256 for one in bundle.facts.members)
    except UserError:
        return False


def held_out_features(
    part: HeldOut,
    bundle: Bundle,
    frames: RunFrames,
    batch_size: int,
    progress: Callable[[int], None],
) -> np.ndarray:
    """float32 (n, c): the member's features of its held-out images in the plain view."""
    forward = FeatureForward(load_classifier(part.member), bundle.frame, batch_size)
    plain = view_transforms("none", bundle.frame)
    spec = bundle.metadata
    known = None if spec is None else spec.encode(part.table)
    found, done = [], 0
    for chunk in frames.chunks(part.image_ids, batch_size):
        rows = slice(done, done + len(chunk))
        answers = forward(chunk, plain, metadata=None if known is None else known[rows])
        found.append(forward.split(answers)[1][:, 0])
        done = rows.stop
        progress(done)
    return np.concatenate(found)


def _one_group(part: HeldOut) -> bool:
    return part.table["group_id"].nunique() < 2
