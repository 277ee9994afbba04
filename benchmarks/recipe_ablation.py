"""What each balancing, augmentation and preprocessing choice does: one fold each, the same budget.

    python benchmarks/recipe_ablation.py --config configs/ham10000_lite0.yaml \
        train.epochs=4 image.size=96 image.stored_height=112 predict.views=flips

Trains runs `ablation_<row>` with the command a user would type (so an interrupted table resumes,
and a finished row is only read), then prints a Markdown table from the saved predictions: each
number with its 95 % interval, and its difference from the base with the interval of that. Both
resample groups; a resample is the same for both sides of a difference.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from kderm.evaluation.intervals import group_intervals
from kderm.evaluation.metrics import Scorecard
from kderm.evaluation.predictions import Predictions, read_predictions
from kderm.labels import label_space
from kderm.run_dir import FoldDir, RunDir, runs_root

# The last epoch's weights: a fold has one of them whatever its scores, so rows compare fairly.
CHECKPOINT = "train.checkpoint=last"
METRICS = {
    "macro_auc": "macro AUC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}

_NO_COLOUR = ["brightness=0", "contrast=0", "saturation=0", "hue=0"]
_NO_GEOMETRY = ["rotation=0", "zoom=0", "shift=0"]
_STRONG = ["zoom=0.3", "brightness=0.25", "contrast=0.3", "saturation=0.3", "hue=0.05"]


def _augment(*changes: str) -> list[str]:
    return [f"augment.{change}" for change in changes]


# The base of all rows: the default recipe, with the colours it had until this table weakened them.
_COLOUR = ["brightness=0.12", "contrast=0.15", "saturation=0.15", "hue=0.02"]
_WEAK_COLOUR = ["brightness=0.05", "contrast=0.06", "saturation=0.06", "hue=0.01"]
BASE = _augment(*_COLOUR)

BALANCING = {
    "base": [],
    "base_again": ["seed=43"],
    "no_weights": ["balance.by=[]"],
    "balanced": ["balance.scheme=balanced"],
    "effective": ["balance.scheme=effective"],
    "focal": ["loss.name=focal", "balance.by=[]"],
    "focal_effective": ["loss.name=focal", "balance.scheme=effective"],
    "focal_balanced": ["loss.name=focal", "balance.scheme=balanced"],
    "smoothing": ["loss.label_smoothing=0.1"],
    "ldam": ["loss.name=ldam"],
    "sampler_sqrt": ["balance.by=[sampler]"],
    "sampler_balanced": ["balance.by=[sampler]", "balance.scheme=balanced"],
    "repeat": [
        "balance.by=[repeat]",
        *("train.epochs=1", "train.frozen_epochs=0"),  # as many steps as four epochs of the others
        "balance.repeat={akiec: 15, bcc: 10, bkl: 5, df: 50, mel: 5, nv: 1, vasc: 40}",
    ],
    "sampler_and_weights": ["balance.by=[sampler, weights]", "balance.scheme=balanced"],
    "sampler_weights_mixing": [
        "balance.by=[sampler, weights]",
        "balance.scheme=balanced",
        *_augment("mixup=0.5", "cutmix=0.5"),
    ],
    "sampler_weights_focal_mixing": [
        "balance.by=[sampler, weights]",
        "balance.scheme=balanced",
        "loss.name=focal",
        *_augment("mixup=0.5", "cutmix=0.5"),
    ],
}
AUGMENTATION = {
    "aug_none": _augment("flip=false", *_NO_GEOMETRY, *_NO_COLOUR),
    "aug_flips": _augment(*_NO_GEOMETRY, *_NO_COLOUR),
    "aug_geometry": _augment(*_NO_COLOUR),
    "aug_weak_colour": _augment(*_WEAK_COLOUR),  # the default since
    "aug_strong": _augment(*_STRONG),
    "blur_noise": _augment("blur=0.3", "noise=0.3"),
    "cutout": _augment("cutout=0.5"),
    "mixup": _augment("mixup=0.5"),
    "cutmix": _augment("cutmix=0.5"),
    "randaugment": _augment("randaugment=2"),
}
PREPROCESSING = {
    "border_crop": ["image.preprocess=[border_crop]"],
    "hair_removal": ["image.preprocess=[hair_removal]"],
    "shades_of_gray": ["image.preprocess=[shades_of_gray]"],
    "clahe": ["image.preprocess=[clahe]"],
}
TRAINING = {
    "ema": ["train.ema=0.99", "train.checkpoint=ema"],
    "metadata": ["model.metadata=[age, sex, site]"],
    "dropout_samples": ["model.dropout_samples=5", "model.dropout=0.5"],
    "no_frozen_epoch": ["train.frozen_epochs=0"],
    "one_cycle": ["train.schedule=one_cycle"],
    "layer_decay": ["train.layer_decay=0.75"],
    "frozen_stages": ["train.frozen_stages=3"],
}
ROWS = BALANCING | AUGMENTATION | PREPROCESSING | TRAINING


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--labels", default="ham10000")
    arguments, overrides = parser.parse_known_args()
    labels = label_space(arguments.labels)
    found = {}
    for row in dict.fromkeys(["base", *arguments.rows]):
        place = trained(row, arguments.config, arguments.fold, overrides)
        found[row] = read_predictions(place.oof, labels)
    names = " | ".join(METRICS.values())
    print(f"\n| row | {names} | less the base: {names} |")
    print("|" + "---|" * (1 + 2 * len(METRICS)))
    for row, predictions in found.items():
        cells = own_cells(predictions)
        cells += ["", "", ""] if row == "base" else gain_cells(predictions, found["base"])
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def trained(row: str, config: str, fold: int, overrides: list[str]) -> FoldDir:
    """The row's fold, trained now unless it is finished; refused if with other options."""
    name = f"ablation_{row}"
    command = [sys.executable, "run.py", "train", "--fold", str(fold), "--config", config]
    command += ["--run", name, CHECKPOINT, *BASE, *overrides, *ROWS[row]]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[1])
    return RunDir(runs_root() / name).fold(fold)


def own_cells(predictions: Predictions) -> list[str]:
    """The row's own numbers."""
    card = scorecard(predictions)
    values = card(np.ones(len(predictions)))
    return cells(values, group_intervals(card, predictions.groups), "{:.3f}")


def gain_cells(predictions: Predictions, base: Predictions) -> list[str]:
    """The row's numbers less those of the base, on the same images."""
    if not (predictions.table["image_id"] == base.table["image_id"]).all():
        raise SystemExit("The rows do not score the same images: were the folds changed?")
    card, other = scorecard(predictions), scorecard(base)

    def difference(weights: np.ndarray) -> dict[str, float]:
        mine, theirs = card(weights), other(weights)
        return {name: mine[name] - theirs[name] for name in METRICS}

    values = difference(np.ones(len(predictions)))
    return cells(values, group_intervals(difference, predictions.groups), "{:+.3f}")


def scorecard(predictions: Predictions) -> Scorecard:
    """The row's metrics as a function of image weights."""
    return Scorecard(predictions.y, predictions.probabilities, predictions.labels)


def cells(values: dict, intervals: dict, form: str) -> list[str]:
    """One Markdown cell a metric: value (low to high)."""
    return [
        f"{form} ({form} to {form})".format(values[name], intervals[name].low, intervals[name].high)
        for name in METRICS
    ]


if __name__ == "__main__":
    main()
