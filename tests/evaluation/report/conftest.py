import json
import re

import numpy as np
import pandas as pd
import pytest

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report import style
from kderm.evaluation.report.write import write_report
from kderm.labels import HAM10000


@pytest.fixture(scope="module")
def coarse_pictures():
    """A quarter of the resolution: most of these tests look at words and numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.STYLE, "savefig.dpi", 36)
        yield


def _out_of_fold(labels=HAM10000, n=350, folds=5, seed=0, lesion_images=2):
    random = np.random.default_rng(seed)
    y = np.arange(n) // lesion_images % len(labels)
    logits = random.normal(size=(n, len(labels))) + 1.5 * np.eye(len(labels))[y]
    values = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    frame = pd.DataFrame(values, columns=labels.columns)
    frame["image_id"] = [f"im{i:04d}" for i in range(n)]
    frame["group_id"] = [f"lesion{i // lesion_images}" for i in range(n)]
    frame["fold"] = [i // lesion_images // len(labels) % folds for i in range(n)]
    frame["label"] = np.array(labels.codes)[y]
    return make_predictions(frame, labels)


def _external(frame, labels=HAM10000):
    return make_predictions(frame.drop(columns=["fold", "group_id"]), labels)


def _history(epochs=3):
    steps = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": steps,
            "phase": ["frozen"] + ["fine_tune"] * (epochs - 1),
            "learning_rate": 1e-3,
            "loss": 1 / steps,
            "val_loss": 1.2 / steps,
            "val_macro_auc": 0.9 - 0.2 / steps,
            "val_balanced_accuracy": 0.6,
            "val_macro_f1": 0.5,
            "seconds": 2.0,
            "chosen": (steps == epochs).astype(int),
        }
    )


def _report(predictions, directory, **changes):
    arguments = {
        "title": "A run",
        "histories": None,
        "facts": {},
        "checkpoint": None,
        "monitor": None,
        "resamples": 20,
    }
    found = write_report(predictions, directory, **arguments | changes)
    text = (directory / "report.md").read_text(encoding="utf-8")
    strict = {"parse_constant": lambda name: pytest.fail(f"{name} in metrics.json")}
    saved = json.loads((directory / "metrics.json").read_text(encoding="utf-8"), **strict)
    assert saved == found
    embedded = set(re.findall(r"\(figures/(\w+)\.png\)", text))
    whole = (directory / "report.html").read_text(encoding="utf-8")
    assert whole.endswith("</html>\n")
    assert whole.count('<figure class="vector"') == len(embedded)
    assert {path.stem for path in (directory / "figures").iterdir()} == embedded
    return found, text


@pytest.fixture(scope="module")
def full(tmp_path_factory, coarse_pictures):
    """metrics.json and report.md of a run with everything in it."""
    table = _out_of_fold().table
    about = {"sex": np.tile(["female", "male", "male"], 117)[:350], "age": 30.0 + table.index % 50}
    return _report(
        make_predictions(table.assign(**about), HAM10000),
        tmp_path_factory.mktemp("run"),
        histories={fold: _history() for fold in range(5)},
        facts={"preset": "keras_cv/x", "seconds": 12.3456789, "versions": {"keras": "3.15"}},
        checkpoint="best",
        monitor="macro_auc",
        resamples=60,
    )


@pytest.fixture(scope="session")
def out_of_fold():
    """out_of_fold(labels, n, folds, seed, lesion_images): a table of a run."""
    return _out_of_fold


@pytest.fixture(scope="session")
def external():
    """external(frame, labels): the same images as if from elsewhere."""
    return _external


@pytest.fixture(scope="session")
def history():
    """history(epochs): what training wrote after each epoch."""
    return _history


@pytest.fixture
def report(coarse_pictures):
    """report(predictions, directory, ...): metrics.json and report.md, both checked for sense."""
    return _report
