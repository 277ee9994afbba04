"""`select RUN --external PATH`: what each further member adds, on images that none was trained on.

Out of fold an image has one answer; how many members are worth having, and whether the mean of
their weights (a soup) does as well as the mean of their answers, only other images can tell.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from kderm.counting import counted
from kderm.data.folds import group_ids
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.combine import average_members
from kderm.ensemble.comparison import compare
from kderm.ensemble.group_parts import group_parts, some_groups
from kderm.ensemble.image_files import size_and_time
from kderm.ensemble.inputs import Inputs, find_inputs
from kderm.ensemble.read_ahead import decoded_chunks
from kderm.ensemble.selection import Truth, greedy_rows, member_rows, soup_rows
from kderm.ensemble.selection_files import Selection
from kderm.ensemble.smaller import SOUP, averaged
from kderm.ensemble.view_answers import ViewPool, view_answers, view_pool
from kderm.errors import UserError
from kderm.evaluation.intervals import RESAMPLES
from kderm.models.averaging import average_views
from kderm.models.classifier import load_classifier
from kderm.models.forward import Forward
from kderm.run_dir import RunDir

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _External:
    """Labelled images that no member was trained on, all readable."""

    table: Inputs
    truth: Truth
    bundle: Bundle
    batch_size: int

    @property
    def paths(self) -> list[str]:
        return self.table.table["path"].tolist()

    @property
    def keys(self) -> list[str]:
        """What kept answers are matched by: a file replaced under its name is another image."""
        return ["|".join(map(str, (path, *size_and_time(path)))) for path in self.paths]

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        size, spec = self.batch_size, self.bundle.metadata
        rows = [(path, "") for path in self.paths]
        parts = [(start // size, rows[start : start + size]) for start in range(0, len(rows), size)]
        for decoded in decoded_chunks(parts, self.bundle.spec):
            start = decoded.number * size
            known = self.table.table.iloc[start : start + size]
            yield decoded.frames, None if spec is None else spec.encode(known)


def select_members(
    run: RunDir,
    bundle: Bundle,
    sources: Sequence[str],
    *,
    views: Sequence[str] | None = None,
    images: int | None = None,
    with_soup: bool = False,
    batch_size: int = 32,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
) -> list[Selection]:
    """Members x views against scores and cost, greedy selection of members, and the soup.

    Args:
        run: a finished run.
        bundle: its bundle.
        sources: labelled images, as for `evaluate --external`; those of the run are left out.
        views: view sets; by default the plain view and the run's own.
        images: look at about so many images, whole groups drawn at random, instead of all.
        with_soup: average the members' weights too, and score that model.
        batch_size: images a forward pass.
        resamples: of the groups, for the intervals.
        progress: called with (passes of one image by one model done, passes).

    Returns:
        "members" and "members_greedy", and "soup" if asked for.

    Raises:
        UserError: no labelled image is left, unknown view sets.
    """
    external, notes = _external(run, bundle, sources, images, batch_size)
    pool = view_pool([bundle.facts.views, *(views or [])], bundle.frame)
    models = _models(run, bundle, batch_size, with_soup)
    found, total = [], len(models) * len(external.paths)
    for number, (name, digest, load) in enumerate(models):

        def report(count: int, before: int = number * len(external.paths)) -> None:
            if progress is not None:
                progress(before + count, total)

        path = run.selection / f"external_{name}.npz"
        found.append(view_answers(path, digest, external.keys, pool, load, external.chunks, report))
    count = len(bundle.facts.members)
    answers = np.stack([one.probabilities for one in found[:count]])  # (m, n, v, k)
    seconds = float(np.median([one.seconds for one in found]))
    soup = found[count].probabilities if with_soup else None
    return _tables(bundle, external.truth, answers, soup, pool, seconds, notes, resamples)


def _tables(
    bundle: Bundle,
    truth: Truth,
    answers: np.ndarray,
    soup: np.ndarray | None,
    pool: ViewPool,
    seconds: float,
    notes: tuple[str, ...],
    resamples: int,
) -> list[Selection]:
    how = bundle.facts.combine
    own = list(pool.sets[bundle.facts.views])
    each = average_views(answers[:, :, own], how)  # (m, n, k)
    names = [f"fold {member.fold}" for member in bundle.facts.members]
    greedy = greedy_rows(names, each, truth, group_parts(truth.groups), resamples=resamples)
    nested = "The last row is the honest one: each fifth by members chosen on the other four."
    result = [
        Selection(
            "members",
            "Members x views: what they gain, and cost",
            member_rows(answers, pool.sets, truth, how, seconds),
            (*notes, "Scores are means over all choices of that many members, with their range."),
        ),
        Selection(
            "members_greedy",
            f"Greedy selection among members, by macro AUC, views {bundle.facts.views}",
            greedy,
            (*notes, nested),
        ),
    ]
    if soup is not None:
        plain = "probability" if how == "oof" else how
        ensemble = average_members(each.swapaxes(0, 1), plain)
        rows = soup_rows(names, each, ensemble, average_views(soup[:, own], how), truth, resamples)
        caution = "The soup's batch normalisations took their statistics from the run's images."
        title = f"Mean of the weights (soup) beside mean of the answers, views {bundle.facts.views}"
        result.append(Selection("soup", title, rows, (*notes, caution)))
    return result


def _models(
    run: RunDir, bundle: Bundle, batch_size: int, with_soup: bool
) -> list[tuple[str, str, Callable[[], Forward]]]:
    """Name, digest and loader of each member, and of the soup."""
    models = []
    for member, path in zip(bundle.facts.members, bundle.member_paths, strict=True):

        def load(path: object = path) -> Forward:
            return Forward(load_classifier(path), bundle.frame, batch_size)

        models.append((f"fold_{member.fold}", member.sha256, load))
    if with_soup:
        digests = [member.sha256 for member in bundle.facts.members]
        digest = hashlib.sha256(" ".join([SOUP, *digests]).encode()).hexdigest()

        def load_soup() -> Forward:
            return Forward(averaged(run, bundle, batch_size), bundle.frame, batch_size)

        models.append((SOUP, digest, load_soup))
    return models


def _external(
    run: RunDir, bundle: Bundle, sources: Sequence[str], images: int | None, batch_size: int
) -> tuple[_External, tuple[str, ...]]:
    """The labelled, readable images that are not the run's, and what to say of them."""
    inputs = find_inputs(sources, bundle.labels, translate=True)
    found = compare(run, bundle, inputs)
    table = inputs.table
    keep = (table["label"] != "") & (table["problem"] == "")
    keep &= ~table["image_id"].isin(set(found.table["image_id"]))
    table = table[keep].reset_index(drop=True)
    readable = _readable(table["path"].tolist(), bundle)
    table = table[readable].reset_index(drop=True)
    if table.empty:
        raise UserError(
            "Expected labelled images that no member was trained on. Received "
            f"{counted(len(inputs), 'image')} in {', '.join(map(str, sources))}: "
            f"{inputs.labelled} with a label, {found.found(len(inputs))}. Choose other images."
        )
    if images is not None:
        table = table[some_groups(_groups(table), images)].reset_index(drop=True)
    if len(np.unique(_groups(table))) < 2:
        raise UserError(
            "Members are chosen on some lesions and scored on others: expected labelled images of "
            f"two lesions or patients at least. Received: {counted(len(table), 'image')} of one. "
            "Give more images."
        )
    codes = table["label"].tolist()
    y = np.array([bundle.labels.index(code) for code in codes])
    told = ", ".join(f"{code} {codes.count(code)}" for code in bundle.labels.codes if code in codes)
    notes = (
        f"On {len(table)} labelled images from elsewhere ({told}); {found.found(len(inputs))}. "
        "Scores are those of the members' own answers, before calibration.",
        *inputs.notes,
        *found.warnings,
    )
    truth = Truth(y, _groups(table), bundle.labels)
    return _External(replace(inputs, table=table), truth, bundle, batch_size), notes


def _groups(table: pd.DataFrame) -> np.ndarray:
    """(n,): lesion or patient where known, else the image itself."""
    return group_ids(table.replace("", np.nan)).to_numpy()


def _readable(paths: Sequence[str], bundle: Bundle) -> np.ndarray:
    chunks = [
        (start, [(path, "") for path in paths[start : start + 64]])
        for start in range(0, len(paths), 64)
    ]
    found = [decoded.readable for decoded in decoded_chunks(chunks, bundle.spec)]
    return np.concatenate(found) if found else np.zeros(0, bool)
