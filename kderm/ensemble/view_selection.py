"""`select RUN`: which test-time views are worth their cost, from the run's own held-out images.

Each image is looked at by the one member that held it out, in every view; so views can be weighed
on all images of the run, but the number of members cannot (`kderm.ensemble.member_selection`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kderm.ensemble.bundle import Bundle
from kderm.ensemble.group_parts import some_groups
from kderm.ensemble.held_out import HeldOut, RunFrames, held_out, read_oof
from kderm.ensemble.selection import Truth, greedy_rows, view_rows
from kderm.ensemble.selection_files import Selection
from kderm.ensemble.view_answers import ViewAnswers, ViewPool, view_answers, view_pool
from kderm.evaluation.intervals import RESAMPLES
from kderm.models.averaging import average_views
from kderm.models.classifier import load_classifier
from kderm.models.forward import Forward
from kderm.run_dir import RunDir

Progress = Callable[[int, int], None]

# The out-of-fold table has seven digits; another backend or device rounds a little more coarsely.
SAME_ANSWER = 1e-3
COST = "Seconds are those of one member on the machine that asked it first, decoding aside."


def select_views(
    run: RunDir,
    bundle: Bundle,
    *,
    views: Sequence[str] | None = None,
    images: int | None = None,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
) -> list[Selection]:
    """Gain and cost of each view set, and greedy selection among all single views.

    Answers are kept in `runs/<run>/selection/`, so a second call is fast.

    Args:
        run: a finished run.
        bundle: its bundle.
        views: view sets to compare; all by default, the plain view and the run's own always.
        images: look at about so many images, whole groups drawn at random, instead of all.
        batch_size: images a forward pass.
        resamples: of the groups, for the intervals.
        progress: called with (images done, images).

    Returns:
        Two selections: "views" and "views_greedy".

    Raises:
        UserError: unknown view sets, images that are gone.
    """
    names = None if views is None else [bundle.facts.views, *views]
    pool = view_pool(names, bundle.frame)
    parts = _sampled(held_out(bundle, read_oof(bundle)), images)
    found = _all_answers(run, bundle, parts, pool, batch_size, progress)
    answers = np.concatenate([one.probabilities for one in found])  # (n, v, k)
    truth = _truth(bundle, parts)
    seconds = float(np.median([one.seconds for one in found]))
    how = bundle.facts.combine
    notes = (_sample_note(parts, images), COST, *_difference(bundle, parts, answers, pool))
    rows = view_rows(answers, pool.sets, truth, how, seconds, resamples=resamples)
    folds = np.concatenate([np.full(len(part), part.fold) for part in parts])
    greedy = greedy_rows(
        pool.names, answers.swapaxes(0, 1), truth, folds, each=False, resamples=resamples
    )
    return [
        Selection("views", "Test-time views: what they gain over the plain view", rows, notes),
        Selection(
            "views_greedy",
            "Greedy selection among single views, by macro AUC",
            greedy,
            (notes[0], "The last row is the honest one: each fold by views chosen on the others."),
        ),
    ]


def _all_answers(
    run: RunDir,
    bundle: Bundle,
    parts: Sequence[HeldOut],
    pool: ViewPool,
    batch_size: int,
    progress: Progress | None,
) -> list[ViewAnswers]:
    frames, total, found = RunFrames(run, bundle), sum(map(len, parts)), []
    done = 0
    for part in parts:

        def report(count: int, before: int = done) -> None:
            if progress is not None:
                progress(before + count, total)

        def load(part: HeldOut = part) -> Forward:
            return Forward(load_classifier(part.member), bundle.frame, batch_size)

        def chunks(part: HeldOut = part) -> Iterator:
            return _with_metadata(part, bundle, frames, batch_size)

        path = run.selection / f"fold_{part.fold}.npz"
        found.append(view_answers(path, part.sha256, part.image_ids, pool, load, chunks, report))
        done += len(part)
    return found


def _with_metadata(
    part: HeldOut, bundle: Bundle, frames: RunFrames, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    spec, start = bundle.metadata, 0
    for chunk in frames.chunks(part.image_ids, size):
        rows = part.table.iloc[start : start + len(chunk)]
        yield chunk, None if spec is None else spec.encode(rows)
        start += len(chunk)


def _sampled(parts: Sequence[HeldOut], images: int | None) -> list[HeldOut]:
    """The parts with whole groups drawn from each, together about `images` images."""
    if images is None:
        return list(parts)
    each = -(-images // len(parts))
    kept = []
    for part in parts:
        chosen = some_groups(part.table["group_id"].to_numpy(), each)
        kept.append(replace(part, table=part.table[chosen].reset_index(drop=True)))
    return kept


def _truth(bundle: Bundle, parts: Sequence[HeldOut]) -> Truth:
    labels = bundle.labels
    codes = np.concatenate([part.table["label"].to_numpy(dtype=object) for part in parts])
    groups = np.concatenate([part.table["group_id"].to_numpy(dtype=object) for part in parts])
    return Truth(np.array([labels.index(code) for code in codes]), groups, labels)


def _sample_note(parts: Sequence[HeldOut], images: int | None) -> str:
    count = sum(map(len, parts))
    which = "all images of the run" if images is None else "images, whole groups drawn at random"
    return (
        f"On {count} {which}, each by the one member that held it out: no leakage. How many "
        "members to use cannot be told from these."
    )


def _difference(
    bundle: Bundle, parts: Sequence[HeldOut], answers: np.ndarray, pool: ViewPool
) -> tuple[str, ...]:
    """Whether the answers are those that the run measured, as they must be."""
    own = average_views(answers[:, list(pool.sets[bundle.facts.views])], bundle.facts.combine)
    columns = bundle.labels.columns
    written = np.concatenate([part.table[columns].to_numpy(np.float64) for part in parts])
    most = float(np.abs(own - written).max())
    if most <= SAME_ANSWER:
        return (f"The run's own views answer as in its out-of-fold table, to {most:.1e}.",)
    return (
        f"WARNING: the run's own views answer otherwise than its out-of-fold table, by up to "
        f"{most:.2f}: the images or the members are not those of the run.",
    )
