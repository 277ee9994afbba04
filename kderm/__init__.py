"""kderm: lesion-grouped cross-validation ensembles of EfficientNets on dermoscopy images.

The names below are all that a program needs; each is loaded when it is first used, so that
`import kderm` takes no time. docs/tutorial.md shows them at work.

    data = kderm.load_dataset("ham10000", "data/ham10000")
    run = kderm.cross_validate(data, kderm.make_folds(data, 5), settings={"train.epochs": 20})
    run.metrics["pooled"]["macro_auc"]          # {"value": ..., "low": ..., "high": ...}
    ensemble = kderm.load_ensemble(run.name)
    ensemble.predict(["photo.jpg"])             # a pandas table, the columns of predictions.csv
    ensemble.explain("photo.jpg").overlay()     # uint8 (H, W, 3)
"""

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Keras reads its backend once, at first import; PyTorch is ours unless the user chose another.
os.environ.setdefault("KERAS_BACKEND", "torch")

if TYPE_CHECKING:
    from kderm.api.datasets import Dataset, load_dataset, make_folds
    from kderm.api.estimator import SkinLesionClassifier
    from kderm.api.evaluating import evaluate
    from kderm.api.explanation import Explanation
    from kderm.api.loaded import Answers, LoadedEnsemble, load_ensemble
    from kderm.api.runs import Run, cross_validate, load_run
    from kderm.data.folds import FoldTable
    from kderm.errors import UserError
    from kderm.labels import LabelSpace

__all__ = [
    "Answers",
    "Dataset",
    "Explanation",
    "FoldTable",
    "LabelSpace",
    "LoadedEnsemble",
    "Run",
    "SkinLesionClassifier",
    "UserError",
    "cross_validate",
    "evaluate",
    "load_dataset",
    "load_ensemble",
    "load_run",
    "make_folds",
]

_HOME = {
    "kderm.api.datasets": ("Dataset", "load_dataset", "make_folds"),
    "kderm.api.estimator": ("SkinLesionClassifier",),
    "kderm.api.evaluating": ("evaluate",),
    "kderm.api.explanation": ("Explanation",),
    "kderm.api.loaded": ("Answers", "LoadedEnsemble", "load_ensemble"),
    "kderm.api.runs": ("Run", "cross_validate", "load_run"),
    "kderm.data.folds": ("FoldTable",),
    "kderm.errors": ("UserError",),
    "kderm.labels": ("LabelSpace",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kderm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
