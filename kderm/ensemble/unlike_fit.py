"""The score of unlike images for a run: one pass of each member over the images it held out.

Writes `unlike.npz` beside the bundle; `write_bundle` puts it into `ensemble.json` with its digest.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm.atomic import write_json
from kderm.data.views import view_transforms
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.ensemble.feature_pass import FeatureForward
from kderm.ensemble.group_parts import some_groups
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

# Images that all members look at, to see how alike their scores are.
SHARED_IMAGES = 200
# Held-out images a member that the score is fitted on: more would cost time and memory alone.
MOST_IMAGES = 10_000


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
    parts = [_at_most(part, MOST_IMAGES) for part in held_out(bundle, read_oof(bundle))]
    few = [part for part in parts if len(part) < FEWEST_IMAGES or _one_group(part)]
    if few:
        raise UserError(
            f"The score of unlike images needs {FEWEST_IMAGES} images of several lesions held out "
            f"by each member. Received: {', '.join(str(len(part)) for part in parts)}."
        )
    shared = _shared(parts)
    frames, total = RunFrames(run, bundle), sum(map(len, parts)) + len(parts) * len(shared)
    features, of_shared, done = [], [], 0
    for part in parts:
        forward = FeatureForward(load_classifier(part.member), bundle.frame, batch_size)
        for table, found in ((part.table, features), (shared, of_shared)):

            def report(count: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + count, total)

            found.append(plain_features(forward, table, bundle, frames, report))
            done += len(table)
    groups = [part.table["group_id"].to_numpy() for part in parts]
    digests = [part.sha256 for part in parts]
    write_unlike(path, fit_unlike(features, groups, of_shared, digests))
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


def plain_features(
    forward: FeatureForward,
    table: pd.DataFrame,
    bundle: Bundle,
    frames: RunFrames,
    progress: Callable[[int], None],
) -> np.ndarray:
    """float32 (n, c): a member's features of images of the run in the plain view.

    Args:
        forward: the member.
        table: rows of the run's out-of-fold table.
        bundle: how metadata are encoded, and the frame.
        frames: the run's frames.
        progress: called with the number of images done.
    """
    plain = view_transforms("none", bundle.frame)
    spec = bundle.metadata
    known = None if spec is None else spec.encode(table)
    found, done = [], 0
    for chunk in frames.chunks(table["image_id"].tolist(), forward.batch_size):
        rows = slice(done, done + len(chunk))
        answers = forward(chunk, plain, metadata=None if known is None else known[rows])
        found.append(forward.split(answers)[1][:, 0])
        done = rows.stop
        progress(done)
    return np.concatenate(found)


def _shared(parts: Sequence[HeldOut]) -> pd.DataFrame:
    """Some images of every fold, for all members to look at."""
    each = -(-SHARED_IMAGES // len(parts))
    chosen = [part.table[some_groups(part.table["group_id"].to_numpy(), each)] for part in parts]
    return pd.concat(chosen, ignore_index=True)


def _at_most(part: HeldOut, images: int) -> HeldOut:
    """About `images` of a member's images in whole groups, or all where there are no more."""
    chosen = some_groups(part.table["group_id"].to_numpy(), images)
    return replace(part, table=part.table[chosen].reset_index(drop=True))


def _one_group(part: HeldOut) -> bool:
    return part.table["group_id"].nunique() < 2
