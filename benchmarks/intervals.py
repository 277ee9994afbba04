"""Seconds for the group bootstrap of every metric, against a loop of scikit-learn calls.

    python benchmarks/intervals.py [OOF.csv --labels ham10000]

Without a table it draws one of HAM10000's size: 10,015 images of 7,470 lesions, seven classes. The
peer repeats the rows of each resample and asks scikit-learn for each number, as one would by hand;
it runs on the first few of the same draws, and its time is scaled up to all of them. Printed too:
the largest difference between the two over those draws, and kderm's memory above the start.
"""

import argparse
import resource
import time

import numpy as np
from sklearn import metrics as peer

from kderm.evaluation.intervals import RESAMPLES, group_intervals
from kderm.evaluation.metrics import Scorecard
from kderm.evaluation.predictions import read_predictions
from kderm.labels import HAM10000, label_space

COUNTS = (327, 514, 1099, 115, 1113, 6705, 142)


def drawn_table():
    """Truth, probabilities and lesions of HAM10000's size: about a quarter photographed again."""
    random = np.random.default_rng(0)
    y = random.permutation(np.repeat(np.arange(7), COUNTS))
    logits = random.normal(size=(len(y), 7)) + 2.5 * np.eye(7)[y]
    odds = np.exp(logits)
    groups = np.concatenate([np.arange(7470), random.integers(0, 7470, len(y) - 7470)])
    return y, odds / odds.sum(axis=1, keepdims=True), groups


def by_scikit_learn(y, probabilities, labels):
    """The numbers of the scorecard that scikit-learn has a call for."""
    decided = probabilities.argmax(axis=1)
    result = {
        "accuracy": peer.accuracy_score(y, decided),
        "balanced_accuracy": peer.balanced_accuracy_score(y, decided),
        "macro_f1": peer.f1_score(y, decided, average="macro"),
        "weighted_f1": peer.f1_score(y, decided, average="weighted"),
        "kappa": peer.cohen_kappa_score(y, decided),
        "mcc": peer.matthews_corrcoef(y, decided),
        "log_loss": peer.log_loss(y, probabilities, labels=range(len(labels))),
    }
    rates = peer.precision_recall_fscore_support(
        y, decided, labels=range(len(labels)), zero_division=np.nan
    )
    for j, code in enumerate(labels.codes):
        result[f"ppv/{code}"], result[f"sensitivity/{code}"], result[f"f1/{code}"] = (
            rate[j] for rate in rates[:3]
        )
        result[f"specificity/{code}"] = peer.recall_score(y != j, decided != j)
        result |= areas(y == j, probabilities[:, j], code)
    malignant = labels.malignant_indices
    if malignant:
        truth, score = np.isin(y, malignant), probabilities[:, malignant].sum(axis=1)
        result["malignant_auc"] = peer.roc_auc_score(truth, score)
        result["malignant_average_precision"] = peer.average_precision_score(truth, score)
    return result


def areas(positive, score, code):
    """Areas of one class against the rest."""
    return {
        f"auc/{code}": peer.roc_auc_score(positive, score),
        f"average_precision/{code}": peer.average_precision_score(positive, score),
    }


def explicit_draws(groups, resamples, seed=0):
    """The rows of each resample, drawn as `group_intervals` draws them."""
    _, membership = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    count = membership.max() + 1
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        yield np.repeat(np.arange(len(membership)), drawn[membership])


def peak_megabytes():
    """Highest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", help="predictions table (default: drawn)")
    parser.add_argument("--labels", default="ham10000", help="its label space")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--peer-resamples", type=int, default=20, help="resamples the peer runs")
    options = parser.parse_args()

    labels = HAM10000
    if options.table:
        labels = label_space(options.labels)
        predictions = read_predictions(options.table, labels)
        y, probabilities, groups = predictions.y, predictions.probabilities, predictions.groups
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    else:
        y, probabilities, groups = drawn_table()
    before = peak_megabytes()

    start = time.process_time()
    card = Scorecard(y, probabilities, labels)
    found = group_intervals(card, groups, resamples=options.resamples)
    ours = time.process_time() - start
    memory = peak_megabytes() - before

    start = time.process_time()
    rows = list(explicit_draws(groups, options.peer_resamples))
    theirs = [by_scikit_learn(y[drawn], probabilities[drawn], labels) for drawn in rows]
    scaled = (time.process_time() - start) / options.peer_resamples * options.resamples

    few = group_intervals(card, groups, resamples=options.peer_resamples)
    largest = max(
        np.abs(
            np.quantile([row[name] for row in theirs], [0.025, 0.975])
            - [few[name].low, few[name].high]
        ).max()
        for name in theirs[0]
    )
    images, lesions = len(y), len(np.unique(groups))
    print(
        f"{images:,} images, {lesions:,} groups, {len(labels)} classes, "
        f"{options.resamples:,} resamples, processor seconds"
    )
    print(f"  scikit-learn, {len(theirs[0])} numbers: {scaled:8.1f} s")
    print(f"  kderm,        {len(found)} numbers: {ours:8.1f} s, {memory:.0f} MB more at the peak")
    print(f"  ratio {scaled / ours:.0f}x; largest difference of an interval's end {largest:.1e}")


if __name__ == "__main__":
    main()
