"""The one owner of every path under `runs/`.

```
runs/
  _data/demo-.../               generated demo data sets
  _stores/<digest>/             decoded images, shared by all runs that need the same pixels
  _data_sets/<name>/            audit/ and inspect/ of a data set that no config names
  _comparisons/<a>_vs_<b>/      compare: compare.md, tables, picture
  <run>/
    config.yaml                 the whole config, frozen when the run starts
    environment.json            versions and devices
    manifest.csv                one row an image
    folds.csv                   the fold table this run uses (a copy, checked at every load)
    store.json                  digest of the decoded images that the run began with
    fold_<k>/                   state.npz, weights_<kind>.npz (while training), then:
      model.keras history.csv oof.csv done.json (log.txt best.keras last.keras ema.keras
      tensorboard/)
    oof.csv ensemble.json unlike.npz metrics.json report.html report.md figures/ tables/
    MODEL_CARD.md CHECKLIST.md
    explanations/               explain: sheets, overlays, maps.csv
    selection/                  select: what views and members gain and cost
    smaller/<soup|folds_...>/   shrink: a bundle of averaged weights, or of some members
    engines/<engine>_<precision>/  export: the members for ONNX Runtime or OpenVINO, engine.json
    predictions/<name>/         ensemble-predict: predictions.csv, sources.json, the report;
                                lesions.csv where lesions are named, prevalence.json if stated
    external/<name>/            evaluate --external: the same, and overlap.csv
    pseudo_labels.csv           cv --unlabelled: what the student learns from besides
    teacher.csv                 distil.teacher's answers, frozen when the run starts
    about_images.csv            evaluate --about: columns for the subgroups
    audit/ inspect/             what was found in the data set
```
"""

import contextlib
import os
import shlex
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from kderm import console
from kderm.errors import UserError, nearest_names, unknown_name
from kderm.leftovers import sweep
from kderm.storage.mirror import ATTEMPTS, bring, origin_url, working_copy
from kderm.storage.places import is_url, open_place

_root: ContextVar[Path | None] = ContextVar("runs_root", default=None)

# Verbs about a data set, not about a run.
WITHOUT_RUN = ("audit", "inspect")
# Below a run, and below a folder of predictions.
EXPLANATIONS = "explanations"


@dataclass(frozen=True)
class FoldDir:
    """Paths of one fold; `done.json` is written last and alone means "finished"."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything needed to go on after the last whole epoch; gone when the fold is done."""
        return self.path / "state.npz"

    def weights(self, kind: str) -> Path:
        """Weights of the "best", "last" or "ema" epoch so far; gone when the fold is done."""
        return self.path / f"weights_{kind}.npz"

    def kept(self, kind: str) -> Path:
        """The "best", "last" or "ema" weights as a member file of their own (train.keep)."""
        return self.path / f"{kind}.keras"

    @property
    def log(self) -> Path:
        """What the process said that trained this fold beside others (cv --jobs)."""
        return self.path / "log.txt"

    @property
    def tensorboard(self) -> Path:
        """Event files, where asked for."""
        return self.path / "tensorboard"

    @property
    def attempts(self) -> Path:
        """What machines of a cluster keep of the fold while they train it; gone when it is done."""
        return self.path / ATTEMPTS

    @property
    def model(self) -> Path:
        """The trained member, a plain Keras file that any backend loads."""
        return self.path / "model.keras"

    @property
    def history(self) -> Path:
        """One row an epoch."""
        return self.path / "history.csv"

    @property
    def oof(self) -> Path:
        """Predictions for this fold's held-out images."""
        return self.path / "oof.csv"

    @property
    def done(self) -> Path:
        """Written last."""
        return self.path / "done.json"

    @property
    def is_done(self) -> bool:
        """Whether the fold is finished."""
        return self.done.exists()

    @property
    def is_started(self) -> bool:
        """Whether anything was trained here."""
        return self.is_done or self.state.exists() or self.attempts.is_dir()

    def sweep(self) -> None:
        """Remove what a killed process left: temporary files, and a finished fold's state."""
        sweep(self.path)
        if self.is_done:
            for left in (self.state, *self.path.glob("weights_*.npz")):
                left.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name, its folder's name."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The frozen config."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions and devices."""
        return self.path / "environment.json"

    @property
    def manifest(self) -> Path:
        """One row an image."""
        return self.path / "manifest.csv"

    @property
    def folds(self) -> Path:
        """The fold table this run uses."""
        return self.path / "folds.csv"

    @property
    def store(self) -> Path:
        """Digest of the image store that the run began with."""
        return self.path / "store.json"

    @property
    def oof(self) -> Path:
        """Out-of-fold predictions of all folds."""
        return self.path / "oof.csv"

    @property
    def bundle(self) -> Path:
        """The ensemble: members, preprocessing, views, threshold."""
        return self.path / "ensemble.json"

    @property
    def metrics(self) -> Path:
        """All numbers of the report."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The report people read."""
        return self.path / "report.md"

    @property
    def figures(self) -> Path:
        """The report's pictures."""
        return self.path / "figures"

    @property
    def about_images(self) -> Path:
        """What else is known of the images, for the subgroups: skin tone and the like."""
        return self.path / "about_images.csv"

    @property
    def image_quality(self) -> Path:
        """The quality of the images, as `inspect` measured it."""
        return self.path / "inspect" / "quality.csv"

    @property
    def explanations(self) -> Path:
        """Sheets of what speaks for each class."""
        return self.path / EXPLANATIONS

    @property
    def selection(self) -> Path:
        """What views and members gain and cost, and their answers."""
        return self.path / "selection"

    @property
    def engines(self) -> Path:
        """The members, exported for other engines."""
        return self.path / "engines"

    @property
    def smaller(self) -> Path:
        """Bundles of fewer members."""
        return self.path / "smaller"

    @property
    def grad_cam(self) -> Path:
        """What the members look at, one image a class."""
        return self.figures / "grad_cam.png"

    @property
    def external(self) -> Path:
        """Default place of `evaluate --external` results."""
        return self.path / "external"

    @property
    def pseudo_labels(self) -> Path:
        """Unlabelled images that this run's ensemble is sure of."""
        return self.path / "pseudo_labels.csv"

    @property
    def lesson(self) -> Path:
        """Of a student: the threshold and the images that its pseudo-labels are from."""
        return self.path / "pseudo_labels.json"

    @property
    def teacher(self) -> Path:
        """Of a student: the teacher's out-of-fold answers to its images."""
        return self.path / "teacher.csv"

    @property
    def unlabelled(self) -> Path:
        """The ensemble's answers to all unlabelled images."""
        return self.path / "pseudo_labels"

    @property
    def predictions(self) -> Path:
        """Default place of `ensemble-predict` results."""
        return self.path / "predictions"

    def fold(self, fold: int) -> FoldDir:
        """Paths of fold `fold` (0-based)."""
        return FoldDir(self.path / f"fold_{fold}")

    def command(self, verb: str, *, with_config: bool = True) -> str:
        """The command line that does `verb` with the config that this run was started with."""
        name = self.path.resolve().name
        words = verb.split()
        words += ["--config", str(self.config)] if with_config else [name]
        words += ["--run", name] if with_config and verb not in WITHOUT_RUN else []
        parent = self.path.resolve().parent
        elsewhere = parent != runs_root().resolve()
        place = origin_url(parent) or str(parent)
        where = f"KDERM_RUNS={shlex.quote(place)} " if elsewhere else ""
        return f"{where}{console.program()} {shlex.join(words)}"

    @property
    def is_bundle_alone(self) -> bool:
        """Whether it was not trained but written by shrink: it answers, and has no folds."""
        return self.bundle.is_file() and not self.config.is_file()

    @property
    def is_started(self) -> bool:
        """Whether any fold has begun: from then on config, images and folds are fixed."""
        return any(FoldDir(path).is_started for path in self.path.glob("fold_*"))


def runs_root() -> Path:
    """`runs/` in the current folder, or what KDERM_RUNS names: a folder, or the copy of a URL."""
    if (held := _root.get()) is not None:
        return held
    named = os.environ.get("KDERM_RUNS", "runs")
    return working_copy(named) if is_url(named) else Path(named)


@contextlib.contextmanager
def runs_at(folder: Path) -> Iterator[None]:
    """Take `folder` for `runs_root()` while it lasts, in this thread."""
    before = _root.set(folder)
    try:
        yield
    finally:
        _root.reset(before)


def open_run(name: str | os.PathLike | None) -> RunDir:
    """The run called `name` (or at that path or URL); with None the last that has an ensemble.

    Raises:
        UserError: no such run, or no finished run yet.
    """
    if is_url(name):
        url, _, name = str(name).removesuffix("/ensemble.json").rstrip("/").rpartition("/")
        root = working_copy(url)
    else:
        root = runs_root()
    name = bring(root, name)
    if name is None:
        bundles = sorted(root.glob("*/ensemble.json"), key=lambda path: path.stat().st_mtime)
        if not bundles:
            raise UserError(
                f"There is no finished run in {root}/ yet (expected {root}/<run>/ensemble.json). "
                f"Train one first: {console.program()} cv --folds 5"
            )
        return RunDir(bundles[-1].parent)
    for path in (root / name, Path(name)):
        if path.is_dir():
            return RunDir(path)
    # A name with a folder or a suffix is meant as a path.
    if Path(name).name != str(name) or Path(name).suffix in (".csv", ".tsv"):
        raise UserError(
            f"Expected the name of a run in {root}/, or a path. Received: {name}, which does not "
            f"exist (looked from {Path.cwd()})."
        )
    known = runs_with("config.yaml", root)
    told = nearest_names(str(name), known) or known[:12]
    finished = runs_with("ensemble.json", root)
    begun = [each for each in told if each not in finished]
    left = f" Not finished: {', '.join(begun)}." if begun else ""
    if not known:
        raise UserError(
            f"Expected the name of a run. Received: {name}, and there is no run in {root}/ yet. "
            f"Train one first: {console.program()} cv --folds 5"
        )
    raise unknown_name("run", str(name), known, do=f"Runs are looked for in {root}/.{left}")


def runs_with(file: str, root: Path) -> list[str]:
    """Names of the runs in the folder `root`, or at its URL, that have `file`, sorted."""
    found = {path.parent.name for path in root.glob(f"*/{file}")}
    if url := origin_url(root):
        found |= {kept.name.partition("/")[0] for kept in open_place(url).matching(f"*/{file}")}
    return sorted(found)


def demo_data_dir(key: str) -> Path:
    """Where a generated demo data set lives."""
    return runs_root() / "_data" / f"demo-{key}"


def data_set_dir(name: str) -> Path:
    """Where the audit and the pages of a data set go that no config names."""
    return runs_root() / "_data_sets" / name


def comparison_dir(name: str) -> Path:
    """Where a comparison of runs goes."""
    return runs_root() / "_comparisons" / name


def store_dir(digest: str) -> Path:
    """Where the decoded images of one manifest and one image spec live."""
    return runs_root() / "_stores" / digest[:16]
