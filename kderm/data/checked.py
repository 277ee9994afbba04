"""Raw folders -> rows, frames and the same image found twice: all that is known before the split.

Everything wrong with the data is collected here and told at once. `kderm.data.prepare` goes on to
the folds; `kderm.data.audit` reports.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from kderm import console, run_dir
from kderm.config.schema import Config, DataConfig
from kderm.counting import counted
from kderm.data.datasets import check_dataset, check_place
from kderm.data.datasets.translation import UNDECIDED
from kderm.data.fingerprints import store_fingerprints
from kderm.data.folds import read_duplicates
from kderm.data.images import ImageSpec
from kderm.data.join import (
    REMOVED,
    Source,
    check_sources,
    label_conflicts,
    read_sources,
    without_overlap,
)
from kderm.data.manifest import Manifest, Problem, RawRows, raise_problems, without_images
from kderm.data.overlap import COLUMNS, find
from kderm.data.store import ImageStore, build_store, store_digest
from kderm.errors import UserError
from kderm.labels import LabelSpace

_SHOWN = 3
# Evidence in words, strongest first.
BY = {"id": "by id", "digest": "by file", "picture": "by picture"}


@dataclass(frozen=True)
class Checked:
    """The data set's rows after every check, before the split.

    Attributes:
        manifest: the rows without a problem of their own, overlapping ones removed if asked for.
        everything: the same before any are removed, those whose images are unreadable too.
        problems: everything wrong with the rest.
        store: the decoded images of all rows.
        sources: where the rows are from.
        pairs: images that are the same (none where nobody looked).
        removed: images left out because an earlier source has them.
        linked: pairs of ids that must share a fold.
        conflicts: pairs of `pairs` with different labels.
    """

    manifest: Manifest
    everything: Manifest
    problems: list[Problem]
    store: ImageStore
    sources: list[Source]
    pairs: pd.DataFrame
    removed: pd.DataFrame
    linked: list[tuple[str, str]]
    conflicts: pd.DataFrame


def check_data(
    config: Config,
    labels: LabelSpace,
    *,
    compare: bool | None = None,
    before_decoding: Callable[[], None] = lambda: None,
) -> Checked:
    """Read all sources, decode the images, look for the same image twice, and check every row.

    Args:
        config: the run's config.
        labels: its label space.
        compare: look for the same image twice; by default where several sources are joined, unless
            data.overlap is "ignore". A single data set's folds are made without looking.
        before_decoding: called when the tables are read and there are images, which may take long
            to decode: refuses what else is wrong.

    Raises:
        UserError: a source that cannot be read at all, or without a single image file.
    """
    data = config.data
    sources = data_sources(data)
    names = [source.name for source in sources]
    act = data.overlap if len(sources) > 1 else "ignore"
    raw = read_sources(sources, labels)
    # Settled by the config alone: no need to decode for minutes before saying so.
    raise_problems([problem for problem in raw.problems if problem.kind == UNDECIDED])
    if not _with_file(raw)[0]:
        raise_problems(check_sources(raw, labels, names)[1])  # says that no file was found
    before_decoding()
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    store, unreadable = open_store(raw, spec)
    pairs = pd.DataFrame(columns=COLUMNS)
    if compare or (compare is None and act != "ignore"):
        pairs = find_pairs(raw, store)
    everything, problems = check_sources(raw, labels, names)
    manifest = everything
    conflicts = label_conflicts(everything.table, pairs)
    removed, linked = pd.DataFrame(columns=REMOVED), []
    if act == "remove":
        raw, removed, linked = without_overlap(raw, pairs)
        left = [name for name in names if (raw.table["source"] == name).any()]
        manifest, problems = check_sources(raw, labels, left)
        manifest = replace(manifest, dropped={**manifest.dropped, **removal_counts(removed)})
    if act != "ignore":
        linked += zip(pairs["image_id_1"], pairs["image_id_2"], strict=True)
    manifest, broken = without_images(manifest, unreadable, drop=data.drop_unreadable)
    problems = [*problems, *broken]
    return Checked(
        manifest, everything, problems, store, sources, pairs, removed, linked, conflicts
    )


def find_pairs(raw: RawRows, store: ImageStore) -> pd.DataFrame:
    """Pairs of the rows' images that are the same, unreadable ones passed over; see `find`."""
    paths = dict(zip(*_with_file(raw), strict=True))
    with console.progress("reading files for their digests") as report:
        prints = store_fingerprints(store, paths, progress=report)
    pairs = find(prints)
    bad = list(store.unreadable)
    keep = ~(pairs["image_id_1"].isin(bad) | pairs["image_id_2"].isin(bad))
    return pairs[keep].reset_index(drop=True)


def overlap_notes(checked: Checked) -> list[str]:
    """What the user should know of images that are in the data twice."""
    if not len(checked.linked) and not len(checked.removed):
        return []
    counts = checked.pairs["by"].value_counts()
    found = ", ".join(f"{counts[by]} {words}" for by, words in BY.items() if by in counts)
    done = "one of each is left out" if len(checked.removed) else "each pair is in one fold"
    notes = [
        f"the same image twice: {counted(len(checked.pairs), 'pair')}, {found}; {done} (see audit)"
    ]
    if len(checked.conflicts):
        shown = [
            f"{row.image_id_1} ({row.label_1}) and {row.image_id_2} ({row.label_2})"
            for row in checked.conflicts.head(_SHOWN).itertuples()
        ]
        notes.append(
            f"{counted(len(checked.conflicts), 'pair')} of these with different labels, for "
            f"example {'; '.join(shown)}"
        )
    return notes


def removal_counts(removed: pd.DataFrame) -> dict[str, int]:
    """Images left out because an earlier source has them, by reason."""
    counts = removed.groupby(["source", "kept_source"], sort=False).size()
    return {f"{name}: also in {kept}": int(count) for (name, kept), count in counts.items()}


def data_sources(data: DataConfig) -> list[Source]:
    """Where the images come from: the one data set, or all of data.sources."""
    if not data.sources:
        check_dataset(data.dataset)
        root = data_root(data)
        return [Source(data.dataset, data.dataset, root, data.table, data.map)]
    given = [key for key in ("root", "table") if getattr(data, key) is not None]
    if given:
        raise UserError(
            "Expected either data.sources or one data set in data.dataset, data.root and "
            f"data.table. Received: data.sources and data.{' and data.'.join(given)}. Move the one "
            "data set into the list, as {dataset: ..., root: ...}; data.root=null behind a config "
            "takes the config's away."
        )
    return [
        Source(
            source.name or source.dataset,
            source.dataset,
            source.root,
            source.table,
            {**data.map, **source.map},
        )
        for source in data.sources
    ]


def check_places(config: Config) -> None:
    """Refuse unknown adapters, and folders and files that are not there, before any long work.

    Raises:
        UserError: either, or no folder named at all.
    """
    data = config.data
    if not data.is_demo:  # the demo is drawn when it is needed
        for source in data_sources(data):
            check_place(source.dataset, source.root)
            if source.table and not any(map(Path.is_file, _tables(source))):
                raise UserError(
                    f"Expected a table at data.table={source.table}, relative to {source.root} or "
                    f"to {Path.cwd()}. Received: no such file."
                )
    if data.duplicates:
        read_duplicates(data.duplicates)
    if data.pseudo_labels and not data.pseudo_labels.is_file():
        raise UserError(
            f"Expected a table at data.pseudo_labels={data.pseudo_labels}. Received: no such file "
            f"(looked from {Path.cwd()})."
        )


def _tables(source: Source) -> tuple[Path, Path]:
    return source.root / source.table, source.table


def data_root(data: DataConfig) -> Path:
    """The raw data set's folder; the demo data set is drawn there first if it is missing."""
    if data.dataset != "demo":
        if data.root is None and data.dataset == "table" and data.table is not None:
            return data.table.parent  # the images lie beside their table, or it gives full paths
        if data.root is None:
            raise UserError(
                f"data.dataset is {data.dataset!r}, so data.root must name its folder, for example "
                "data.root=path/to/images. Received: no root."
            )
        return data.root
    from kderm.data.datasets.demo import DEMO_SEED, write_demo

    root = run_dir.demo_data_dir(f"{data.demo_images}x{data.demo_size}-seed{DEMO_SEED}")
    with console.progress("drawing the demo data set") as report:
        write_demo(root, data.demo_images, height=data.demo_size, progress=report)
    return root


def open_store(raw: RawRows, spec: ImageSpec) -> tuple[ImageStore, dict[str, str]]:
    """The decoded images of a table, built if need be, and the unreadable ids with reasons.

    All images with an id and a file go in, rows with a bad label too: when the table is mended,
    nothing is decoded again.
    """
    ids, paths = _with_file(raw)
    directory = run_dir.store_dir(store_digest(ids, paths, spec))
    with console.progress("decoding images") as report:
        return build_store(directory, ids, paths, spec, progress=report)


def _with_file(raw: RawRows) -> tuple[list[str], list[str]]:
    """Ids and files of the rows that have both, each id once."""
    known = raw.table[["image_id", "path"]].replace("", None).dropna()
    known = known.drop_duplicates("image_id")
    ids = known["image_id"].astype(str).str.strip().tolist()
    return ids, known["path"].tolist()
