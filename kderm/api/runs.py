"""Runs in Python: train one, open one, and what it found.

What the verbs `cv` and `evaluate` do; the files of a run are the same, so either goes on where the
other stopped.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kderm import console
from kderm.api.arguments import in_arguments, require_count
from kderm.api.conclusion import conclude_run, learn_likeness, write_ensemble
from kderm.api.datasets import UNGROUPED, Dataset, dropped_words, is_ungrouped, load_dataset
from kderm.api.loaded import LoadedEnsemble
from kderm.atomic import locked
from kderm.config.reading import changed_config, load_config
from kderm.config.run_names import named_run
from kderm.config.schema import Config
from kderm.data.folds import FoldTable, read_folds, write_folds
from kderm.data.manifest import read_manifest
from kderm.ensemble.bundle import read_bundle
from kderm.errors import UserError
from kderm.evaluation.predictions import read_predictions
from kderm.labels import LabelSpace, label_space
from kderm.run_dir import RunDir, open_run, runs_at
from kderm.runtime import check_backend
from kderm.storage import mirror
from kderm.storage.mirror import working_copy
from kderm.storage.places import is_url

if TYPE_CHECKING:
    from kderm.data.prepare import Prepared


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk.

    Attributes:
        path: its folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Its name, the folder's."""
        return self.path.name

    @property
    def config(self) -> Config:
        """Every option that it was started with."""
        return load_config(RunDir(self.path).config)

    @property
    def labels(self) -> LabelSpace:
        """The label space."""
        data = self.config.data
        return label_space(data.labels, data.classes, data.malignant)

    @property
    def oof(self) -> pd.DataFrame:
        """One row an image, answered by the member that did not see it.

        Columns image_id, group_id, fold, label, p_<code> in label-space order, and what else is
        known of the image.

        Raises:
            UserError: the run is not finished.
        """
        return read_predictions(RunDir(self.path).oof, self.labels).table

    @property
    def folds(self) -> FoldTable:
        """How its images were split."""
        run = RunDir(self.path)
        return read_folds(run.folds, read_manifest(run.manifest, self.labels).table, self.labels)

    @property
    def metrics(self) -> dict:
        """The content of metrics.json: all numbers, with intervals; see docs/metrics.md.

        Raises:
            UserError: the run is not finished.
        """
        try:
            return json.loads(RunDir(self.path).metrics.read_text(encoding="utf-8"))
        except OSError:
            raise UserError(
                f"Expected a finished run. Received: {self.path}, without metrics.json. Finish it "
                "with kderm.cross_validate, or the command cv."
            ) from None

    @property
    def report(self) -> Path:
        """The page that tells it all."""
        return self.path / "report.html"

    def ensemble(self, **settings: Any) -> LoadedEnsemble:
        """The members together, ready to answer; settings as `LoadedEnsemble` takes them.

        Raises:
            UserError: the run is not finished.
        """
        return LoadedEnsemble(read_bundle(self.path), **settings)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load_run(run: str | os.PathLike | None = None) -> Run:
    """A run by its name below `runs/` (or KDERM_RUNS) or its path; None for the newest finished.

    Raises:
        UserError: no such run.
    """
    return Run(open_run(run).path)


def cross_validate(
    data: Dataset | None = None,
    folds: int | FoldTable | None = None,
    *,
    run: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    jobs: int = 1,
    report: bool = True,
    quiet: bool = False,
) -> Run:
    """Train a member a fold, join their out-of-fold answers, write report and ensemble.

    A run of the same name and options goes on where it stopped; finished folds are kept.

    Args:
        data: of `load_dataset`; None for the demo.
        folds: how many, or the table of `make_folds`; None for the config's.
        run: the run's name, or the path or URL of its folder; None for a name after the data set.
            At a URL it is trained in a working copy here, and copied there as folds are finished.
        settings: options by their keys, over those of the data set's config:
            {"model.preset": "keras_cv/efficientnetv2_b0_imagenet", "train.epochs": 20}.
        jobs: folds at a time, each in a process of its own.
        report: whether to write the report and metrics.json, which takes a while.
        quiet: print nothing but warnings.

    Raises:
        UserError: anything wrong with data or options, a run that was started with others, or one
            that another process is writing.
    """
    require_count("jobs", "folds at a time", jobs)
    with console.quiet(quiet), in_arguments({"folds.k": "folds", "--run NAME": "run="}):
        data = load_dataset() if data is None else data
        config = changed_config(data.config, settings or {})
        place = run_place(config, run)
        with exclusive_run(place):
            return train_held(data, config, folds, place, jobs=jobs, report=report)


def train_held(
    data: Dataset,
    config: Config,
    folds: int | FoldTable | None,
    place: RunDir,
    *,
    jobs: int,
    report: bool,
) -> Run:
    """What `cross_validate` does while it holds the run's lock."""
    check_backend()
    config = _with_folds(config, place, folds)
    from kderm.training.crossval import cross_validate as train_all

    train_all(config, place, jobs=jobs, show=_warner(data, folds))
    if report:
        conclude_run(place)
    else:
        write_ensemble(place)
    learn_likeness(place)
    return Run(place.path)


def run_place(config: Config, run: str | os.PathLike | None) -> RunDir:
    """The folder of a run: by its path, its URL, its name, or after the data set.

    Raises:
        UserError: a name that is no name of a folder.
    """
    if is_url(run):
        above, _, name = run.rstrip("/").rpartition("/")
        if above.endswith(("/", ":")):
            raise UserError(
                "Expected a run at a URL as the URL of its runs and its name, such as "
                f"s3://bucket/runs/mine. Received: {run}."
            )
        with runs_at(working_copy(above)):
            return named_run(config, None, name)
    if isinstance(run, os.PathLike) and is_url(os.fspath(run).replace(":/", "://", 1)):
        raise UserError(
            f"Expected a URL as text, since a path drops one of its slashes. Received: {run!r}."
        )
    if run is None:
        return named_run(config, None, None)
    if isinstance(run, os.PathLike) or os.sep in run:
        return RunDir(Path(run))
    return named_run(config, None, run)


def _warner(data: Dataset, folds: int | FoldTable | None) -> Callable[["Prepared"], None]:
    """Says what is wrong with prepared data, but for what `data` and `folds` were told of."""

    def warn(prepared: "Prepared") -> None:
        words = list(prepared.notes)
        if prepared.folds.absent:
            words.append(f"{prepared.folds.absent} images of the folds are not in this data set")
        if not isinstance(folds, FoldTable):  # else `make_folds` has said it
            dropped, told = prepared.manifest.dropped, data.manifest.dropped
            words += dropped_words({why: n for why, n in dropped.items() if why not in told})
            words += [UNGROUPED] if is_ungrouped(prepared.manifest.table, prepared.folds) else []
        for each in words:
            console.warn(each)

    return warn


@contextlib.contextmanager
def exclusive_run(place: RunDir) -> Iterator[None]:
    """Hold the run's lock; what was written goes to the run's URL, where it has one."""
    words = f"Another process is writing the run {place.name!r}. Wait for it, or name another run."
    with locked(place.path, words, "cross_validate"):
        yield
        mirror.push(place.path)


def _with_folds(config: Config, place: RunDir, folds: int | FoldTable | None) -> Config:
    """The config of a run with `folds`; a table becomes the run's own, unless it has begun."""
    if folds is None:
        return config
    if not isinstance(folds, FoldTable):
        return changed_config(config, {"folds.k": folds})
    own = {"folds.k": folds.k, "folds.seed": folds.seed, "folds.file": place.folds}
    if not place.is_started:
        write_folds(place.folds, replace(folds, absent=0), "kderm.cross_validate, folds given")
        return changed_config(config, own)
    before = read_folds(place.folds, folds.table.assign(**_NO_IDS), folds.labels)
    if before.digest != folds.digest:
        raise UserError(
            f"The run {place.name!r} was started with other folds. Give the new experiment a name "
            "of its own with run=..., or leave out folds to continue it."
        )
    # The same folds, wherever the run that has them was started from.
    return changed_config(config, own | {"folds.file": load_config(place.config).folds.file})


# A fold table knows groups, not the ids that they were made of.
_NO_IDS = {"lesion_id": None, "patient_id": None}
