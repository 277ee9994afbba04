"""Raw folder -> manifest, image store, folds: all that must be right before anything is trained.

Everything wrong with a data set is collected and told at once; nothing is trained on a guess.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kderm import console, run_dir
from kderm.atomic import write_json
from kderm.config import Config, DataConfig
from kderm.data.datasets import read_dataset
from kderm.data.folds import FoldTable, make_folds, read_duplicates, read_folds, write_folds
from kderm.data.images import ImageSpec
from kderm.data.manifest import (
    Manifest,
    RawRows,
    build_manifest,
    raise_problems,
    without_images,
    write_manifest,
)
from kderm.data.store import ImageStore, build_store, store_digest
from kderm.errors import UserError
from kderm.labels import LabelSpace, label_space
from kderm.run_dir import RunDir


@dataclass(frozen=True)
class Prepared:
    """What training reads: who is in, how it is split, and the pixels."""

    manifest: Manifest
    folds: FoldTable
    folds_path: Path
    store: ImageStore
    labels: LabelSpace
    notes: list[str] = field(default_factory=list)


def prepare(config: Config, run: RunDir | None = None, *, make_folds_file: bool = True) -> Prepared:
    """Read and check the data set, decode its images once, and make or load its folds.

    Args:
        config: the run's config.
        run: keeps the manifest and a copy of the folds; once it has begun to train, those are
            fixed, and a data set that has changed is refused. None keeps neither.
        make_folds_file: make the table that folds.file names where it does not exist; refused
            otherwise, since a mistyped name would quietly change the split.

    Raises:
        UserError: all problems of the table and of the images in one message.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    root = data_root(config.data, config.seed)
    raw = read_dataset(config.data.dataset, root, labels, config.data.table)
    manifest, problems = build_manifest(raw, labels)
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    store, unreadable = open_store(raw, spec)
    manifest, broken = without_images(manifest, unreadable, drop=config.data.drop_unreadable)
    raise_problems([*problems, *broken])

    duplicates = read_duplicates(config.data.duplicates) if config.data.duplicates else ()
    notes = list(manifest.notes)
    if run is not None and run.is_started:
        folds, path = read_folds(run.folds, manifest.table, labels, duplicates), run.folds
        refuse_other_images(run, folds)
        notes += changed_files(run, store)
    else:
        folds, path = open_folds(config, manifest, labels, duplicates, make=make_folds_file)
    if run is not None and not run.is_started:
        write_manifest(run.manifest, manifest)
        write_folds(run.folds, folds, f"run {run.name}, from {path}")
        write_json(run.store, {"digest": store.digest})
    return Prepared(manifest, folds, path, store, labels, notes)


def data_root(data: DataConfig, seed: int) -> Path:
    """The raw data set's folder; the demo data set is drawn there first if it is missing."""
    if data.dataset != "demo":
        if data.root is None:
            raise UserError(
                f"data.dataset is {data.dataset!r}, so data.root must name its folder, for example "
                "data.root=path/to/images. Received: no root."
            )
        return data.root
    root = run_dir.demo_data_dir(f"{data.demo_images}x{data.demo_size}-seed{seed}")
    from kderm.data.datasets.demo import write_demo

    with console.progress("drawing the demo data set") as report:
        write_demo(root, data.demo_images, seed=seed, height=data.demo_size, progress=report)
    return root


def open_store(raw: RawRows, spec: ImageSpec) -> tuple[ImageStore, dict[str, str]]:
    """The decoded images of a table, built if need be, and the unreadable ids with reasons.

    All images with an id and a file go in, rows with a bad label too: when the table is mended,
    nothing is decoded again.
    """
    known = raw.table[["image_id", "path"]].replace("", None).dropna()
    known = known.drop_duplicates("image_id")
    ids = known["image_id"].astype(str).str.strip().tolist()
    paths = [Path(path) for path in known["path"]]
    directory = run_dir.store_dir(store_digest(ids, paths, spec))
    with console.progress("decoding images") as report:
        return build_store(directory, ids, paths, spec, progress=report)


def refuse_other_images(run: RunDir, folds: FoldTable) -> None:
    """Refuse to go on with fewer images than the run began with (more have no fold already)."""
    if not folds.absent:
        return
    before = pd.read_csv(run.manifest, dtype=str)["image_id"]
    gone = sorted(set(before) - set(folds.table["image_id"]))
    raise UserError(
        f"The run {run.name!r} began with {len(before)} images. {folds.absent} of them are not in "
        f"the data set any more: {', '.join(gone[:5])}{', ...' if len(gone) > 5 else ''}. Bring "
        "them back, or start a new run with --run NAME."
    )


def changed_files(run: RunDir, store: ImageStore) -> list[str]:
    """A note if image files differ from those that the run began with."""
    if json.loads(run.store.read_text())["digest"] == store.digest:
        return []
    return [
        f"the image files differ in name, size or time from those that the run {run.name!r} began "
        "with: go on only if they are the same pictures"
    ]


def default_folds_path(config: Config) -> Path:
    """`cv_folds/<data set>_k<k>_seed<seed>.csv`, with what else tells data sets apart."""
    data = config.data
    name = data.dataset
    if name == "demo":
        name += f"{data.demo_images}x{data.demo_size}-seed{config.seed}"
    elif name != "ham10000":
        parts = [name, Path(data.root or ".").resolve().name, data.table and data.table.stem]
        name = "_".join(part for part in parts if part)
    if data.labels not in ("ham10000", "custom"):
        name += f"_{data.labels}"
    return Path("cv_folds") / f"{name}_k{config.folds.k}_seed{config.folds.seed}.csv"


def open_folds(
    config: Config,
    manifest: Manifest,
    labels: LabelSpace,
    duplicates: list[tuple[str, str]],
    *,
    make: bool,
) -> tuple[FoldTable, Path]:
    """The frozen folds, verified against the manifest; made and written where there are none."""
    path = config.folds.file or default_folds_path(config)
    if path.exists():
        folds = read_folds(path, manifest.table, labels, duplicates)
        if (folds.k, folds.seed) != (config.folds.k, config.folds.seed):
            raise UserError(
                f"The config asks for {config.folds.k} folds with seed {config.folds.seed}, but "
                f"{path} has {folds.k} with seed {folds.seed}. Set folds.k and folds.seed to "
                "those, or name another file with folds.file=PATH."
            )
        return folds, path
    if config.folds.file and not make:
        raise UserError(
            f"Expected the fold table that folds.file names. Received: {path}, which is not there. "
            "Correct the name, or make it with the command prepare and the same options."
        )
    folds = make_folds(manifest.table, labels, config.folds.k, config.folds.seed, duplicates)
    write_folds(path, folds, f"kderm prepare, data.dataset={config.data.dataset}, {path.name}")
    return folds, path
