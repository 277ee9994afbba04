"""Raw folder -> manifest, image store, folds: all that must be right before anything is trained.

Everything wrong with a data set is collected and told at once; nothing is trained on a guess.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kderm.atomic import write_json
from kderm.config.schema import Config
from kderm.data.checked import check_data, overlap_notes
from kderm.data.datasets.demo import DEMO_SEED
from kderm.data.folds import FoldTable, make_folds, read_duplicates, read_folds, write_folds
from kderm.data.manifest import Manifest, raise_problems, write_manifest
from kderm.data.metadata import fit_metadata
from kderm.data.pseudo import PseudoLabelled, read_pseudo_labelled
from kderm.data.store import ImageStore
from kderm.errors import UserError
from kderm.labels import LabelSpace, label_space
from kderm.run_dir import RunDir


@dataclass(frozen=True)
class Prepared:
    """What training reads: who is in, how it is split, and the pixels.

    Attributes:
        manifest: one row an image.
        folds: the split.
        folds_path: the table it is from.
        store: the decoded images.
        labels: the label space.
        notes: facts that the user and the report should know.
        overlaps: pairs of images of joined sources that are the same; see `overlap.find`.
        removed: images that an earlier source has; see `join.without_overlap`.
        pseudo: further images that train only, where there are any.
    """

    manifest: Manifest
    folds: FoldTable
    folds_path: Path
    store: ImageStore
    labels: LabelSpace
    notes: list[str] = field(default_factory=list)
    overlaps: pd.DataFrame = field(default_factory=pd.DataFrame)
    removed: pd.DataFrame = field(default_factory=pd.DataFrame)
    pseudo: PseudoLabelled | None = None


def prepare(
    config: Config,
    run: RunDir | None = None,
    *,
    make_folds_file: bool = True,
    before_decoding: Callable[[], None] = lambda: None,
) -> Prepared:
    """Read and check the data set, decode its images once, and make or load its folds.

    Args:
        config: the run's config.
        run: keeps the manifest and a copy of the folds; once it has begun to train, those are
            fixed, and a data set that has changed is refused. None keeps neither.
        make_folds_file: make the table that folds.file names where it does not exist; refused
            otherwise, since a mistyped name would quietly change the split.
        before_decoding: see `check_data`.

    Raises:
        UserError: all problems of the table and of the images in one message.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    checked = check_data(config, labels, before_decoding=before_decoding)
    raise_problems(checked.problems)
    manifest, store = checked.manifest, checked.store
    if config.model.metadata:
        fit_metadata(manifest.table, config.model.metadata)  # refuses columns that none has

    ids = checked.everything.table["image_id"]
    listed = read_duplicates(config.data.duplicates, ids) if config.data.duplicates else []
    duplicates = [*listed, *checked.linked]
    notes = [*manifest.notes, *overlap_notes(checked), *empty_classes(manifest, labels)]
    pseudo = None
    if config.data.pseudo_labels:
        pseudo = read_pseudo_labelled(config.data.pseudo_labels, labels, store.spec)
    if run is not None and run.is_started:
        refuse_other_pseudo_labels(run, pseudo)
        folds, path = read_folds(run.folds, manifest.table, labels, duplicates), run.folds
        refuse_other_images(run, folds)
        notes += changed_files(run, store)
    else:
        folds, path = open_folds(config, manifest, labels, duplicates, make=make_folds_file)
    if run is not None and not run.is_started:
        write_manifest(run.manifest, manifest)
        write_folds(run.folds, folds, f"run {run.name}, from {path}")
        taught = None if pseudo is None else pseudo.digest
        write_json(run.store, {"digest": store.digest, "pseudo_labels": taught})
    return Prepared(
        manifest, folds, path, store, labels, notes, checked.pairs, checked.removed, pseudo
    )


def empty_classes(manifest: Manifest, labels: LabelSpace) -> list[str]:
    """A note if most classes of the label space have no image."""
    counts = manifest.table["label"].value_counts()
    empty = [code for code in labels.codes if not counts.get(code, 0)]
    if 2 * len(empty) <= len(labels):
        return []
    return [
        f"{len(empty)} of the {len(labels)} classes of data.labels={labels.name} have no image "
        f"({', '.join(empty)}): members would answer them without having learnt them. "
        "To take the classes that there are, set data.labels=custom with data.classes and "
        "data.malignant; for two, data.labels=binary with data.map.<label>=benign or malignant."
    ]


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


def refuse_other_pseudo_labels(run: RunDir, pseudo: PseudoLabelled | None) -> None:
    """Refuse to train the folds that are left on other pseudo-labels than the first ones."""
    before = json.loads(run.store.read_text()).get("pseudo_labels")
    if before != (None if pseudo is None else pseudo.digest):
        raise UserError(
            f"The run {run.name!r} began with other pseudo-labels, so its folds would not have "
            "learnt from the same images. Expected the table and the files that it began with. "
            "Restore them, or start a new run with --run NAME."
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
    if data.sources:
        # Two files of one name differ in their images, which are checked when folds are read.
        name = "+".join(
            source.name or _data_set_name(source.dataset, source.root, source.table)
            for source in data.sources
        )
        name += "" if data.overlap == "group" else f"_{data.overlap}"
    elif data.dataset == "demo":
        name = f"demo{data.demo_images}x{data.demo_size}-seed{DEMO_SEED}"
    else:
        name = _data_set_name(data.dataset, data.root, data.table)
    if data.labels != "ham10000":
        name += f"_{data.labels}"
    return Path("cv_folds") / f"{name}_k{config.folds.k}_seed{config.folds.seed}.csv"


def _data_set_name(dataset: str, root: Path | None, table: Path | None) -> str:
    if dataset == "ham10000":
        return dataset
    parts = [dataset, Path(root or ".").resolve().name, table and table.stem]
    return "_".join(part for part in parts if part)


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
    if config.data.sources:
        made_of = "+".join(source.name or source.dataset for source in config.data.sources)
    else:
        made_of = config.data.dataset
    write_folds(path, folds, f"kderm prepare, data.dataset={made_of}, {path.name}")
    return folds, path
