"""What correcting to a stated prevalence gains, from an out-of-fold table alone.

    python benchmarks/prevalence.py runs/RUN/oof.csv --code mel --share 0.02

Each fold's answers are scaled and corrected by what the other folds say, then scored with weights
that give the class the stated share: the answers for images among which it is that frequent.
"""

import argparse
from pathlib import Path

import numpy as np

from kderm.evaluation.calibration.prevalence import implied_prior, stated_prior, to_prevalence
from kderm.evaluation.calibration.scaling import nested_calibration
from kderm.evaluation.predictions import read_predictions
from kderm.labels import label_space


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="oof.csv of a run")
    parser.add_argument("--labels", default="ham10000", help="its label space")
    parser.add_argument("--code", default="mel")
    parser.add_argument("--share", type=float, default=0.02)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    labels = label_space(arguments.labels)
    found = nested_calibration(read_predictions(arguments.table, labels), "temperature")
    p, y, folds, index = found.probabilities, found.y, found.folds, labels.index(arguments.code)
    images = np.bincount(y, minlength=len(labels)) / len(y)
    goal = stated_prior(images, [([index], arguments.share)])
    corrected = {"none": p, "from the label shares": p.copy(), "from the answers' prior": p.copy()}
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        shares = np.bincount(y[others], minlength=len(labels)) / others.sum()
        starts = {
            "from the label shares": shares,
            "from the answers' prior": implied_prior(p[others], y[others]),
        }
        for name, start in starts.items():
            corrected[name][own] = to_prevalence(p[own], start, goal)
    weights = (goal / images)[y]
    print(f"{arguments.code} at {arguments.share:.1%}, {len(y):,} images")
    print(f"{'correction':26}{'mean probability':>18}{'log-loss':>10}")
    for name, answers in corrected.items():
        mean = np.average(answers[:, index], weights=weights)
        losses = -np.log(np.maximum(answers[np.arange(len(y)), y], 1e-15))
        print(f"{name:26}{mean:18.2%}{np.average(losses, weights=weights):10.3f}")


if __name__ == "__main__":
    main()
