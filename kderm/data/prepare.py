"""Raw folder -> manifest, image store, folds: all that must be right before anything is trained.

Everything wrong with a data set is collected and told at once; nothing is trained on a guess.
"""

from dataclasses import dataclass, field
from pathlib import Path

from kderm import console, run_dir
from kderm.config import Config, DataConfig
from kderm.data.datasets import read_dataset
from kderm.data.folds import FoldTable, make_folds, read_duplicates, read_folds, write_folds
from kderm.data.images import ImageSpec
from kderm.data.manifest import (
    Manifest,
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


def prepare(config: Config, run: RunDir | None = None) -> Prepared:
    """Read and check the data set, decode its images once, and make or load its folds.

    Args:
        config: the run's config.
        run: where to keep the manifest and a copy of the folds; None keeps neither.

    Raises:
        UserError: all problems of the table and of the images in one message.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    root = data_root(config.data, config.seed)
    manifest, problems = build_manifest(
        read_dataset(config.data.dataset, root, labels, config.data.table), labels
    )
    store, unreadable = open_store(manifest, ImageSpec(*config.image.stored_shape))
    manifest, broken = without_images(manifest, unreadable, drop=config.data.drop_unreadable)
    raise_problems([*problems, *broken])

    duplicates = read_duplicates(config.data.duplicates) if config.data.duplicates else ()
    folds, path = open_folds(config, manifest, labels, duplicates, run)
    if run is not None:
        write_manifest(run.manifest, manifest)
        write_folds(run.folds, folds, f"run {run.name}, from {path}")
    return Prepared(manifest, folds, path, store, labels, list(manifest.notes))


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


def open_store(manifest: Manifest, spec: ImageSpec) -> tuple[ImageStore, dict[str, str]]:
    """The decoded images of a manifest, built if need be, and the unreadable ids with reasons."""
    ids = manifest.table["image_id"].tolist()
    paths = [Path(path) for path in manifest.table["path"]]
    directory = run_dir.store_dir(store_digest(ids, paths, spec))
    with console.progress("decoding images") as report:
        return build_store(directory, ids, paths, spec, progress=report)


def default_folds_path(config: Config) -> Path:
    """`cv_folds/<data set>_k<k>_seed<seed>.csv`, with the data folder's name where it matters."""
    name = config.data.dataset
    if name == "demo":
        name += f"{config.data.demo_images}x{config.data.demo_size}-seed{config.seed}"
    elif name != "ham10000":
        name += f"_{Path(config.data.root or '.').resolve().name}"
    return Path("cv_folds") / f"{name}_k{config.folds.k}_seed{config.folds.seed}.csv"


def open_folds(
    config: Config,
    manifest: Manifest,
    labels: LabelSpace,
    duplicates: list[tuple[str, str]],
    run: RunDir | None,
) -> tuple[FoldTable, Path]:
    """The frozen folds, verified against the manifest; made and written where there are none."""
    path = config.folds.file or default_folds_path(config)
    started = run is not None and run.folds.exists()
    source = run.folds if started else path
    if source.exists():
        folds = read_folds(source, manifest.table, labels, duplicates)
        if (folds.k, folds.seed) != (config.folds.k, config.folds.seed):
            raise UserError(
                f"The config asks for {config.folds.k} folds with seed {config.folds.seed}, but "
                f"{source} has {folds.k} with seed {folds.seed}. Set folds.k and folds.seed to "
                "those, or name another file with folds.file=PATH."
            )
        return folds, source
    folds = make_folds(manifest.table, labels, config.folds.k, config.folds.seed, duplicates)
    write_folds(path, folds, f"kderm prepare, data.dataset={config.data.dataset}, {path.name}")
    return folds, path
