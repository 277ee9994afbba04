"""One seed twice gives the same files; five seeds give the spread that the folds do not show.

    python -m benchmarks.drills reproducibility
    python -m benchmarks.drills reproducibility --config configs/ham10000_lite0.yaml \\
        image.size=48 image.stored_height=56 train.epochs=4 predict.views=flips

The first form trains the demo in two folders, and once more with two folds at a time. The second
trains the config once a seed with the same folds; runs that are finished are kept.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.drills.kills import CV, IMAGES
from benchmarks.drills.remains import contents, differences
from benchmarks.drills.workplace import REPOSITORY, Workplace, table

METRICS = ("macro_auc", "balanced_accuracy", "macro_f1", "accuracy")
PREDICT = ("ensemble-predict", IMAGES, "--out", "out")


def one_seed_twice(folder: Path) -> tuple[list[list[object]], list[str]]:
    """Train and predict in two folders with one seed, side by side too, and with another seed.

    Returns:
        rows of the table, and what was wrong.
    """
    cases = {
        "again, in another folder": (),
        "two folds at a time": ("--jobs", "2"),
        "with another seed": ("seed=7",),
    }
    first = _finished(Workplace(folder / "first"), ())
    rows, wrong = [], []
    for name, words in cases.items():
        again = _finished(Workplace(folder / "again"), words)
        told = differences(first, again)
        same = not told
        if same == (words == ("seed=7",)):
            wrong += told or [f"{name}: the same files"]
        rows.append([name, len(again), len(told)])
        shutil.rmtree(folder / "again")
    return rows, wrong


def _finished(place: Workplace, more: Sequence[str]) -> dict[str, str]:
    place.clear()
    for words in ((*CV, *more), PREDICT):
        ended = place.run(words)
        if ended.code:
            raise SystemExit(ended.err)
    found = contents(place.runs) | contents(place.path / "out")
    # The paths of the images stand there.
    return {name: digest for name, digest in found.items() if Path(name).name != "sources.json"}


def train_seeds(config: str, overrides: Sequence[str], seeds: Sequence[int], runs: Path) -> None:
    """`cv` once a seed, each a run seed_<seed> in `runs`."""
    for seed in seeds:
        if (runs / f"seed_{seed}" / "metrics.json").is_file():
            continue
        words = ["cv", "--config", config, "--run", f"seed_{seed}", f"seed={seed}", *overrides]
        subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words],
            env={**os.environ, "KDERM_RUNS": str(runs)},
            check=True,
        )


def seed_table(runs: Sequence[Path]) -> str:
    """Each metric by seed: mean and standard deviation, beside the folds' and the interval's.

    Args:
        runs: folders of finished runs that differ in their seed alone.
    """
    every = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    rows = []
    for name in METRICS:
        pooled = [metrics["pooled"][name] for metrics in every]
        values = [one["value"] for one in pooled]
        width = statistics.mean((one["high"] - one["low"]) / 2 for one in pooled)
        folds = statistics.mean(metrics["fold_mean"][name]["sd"] for metrics in every)
        rows.append(
            [
                name.replace("_", " "),
                " ".join(f"{value:.3f}" for value in values),
                f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.4f}",
                f"{max(values) - min(values):.3f}",
                f"{folds:.3f}",
                f"± {width:.3f}",
            ]
        )
    header = ["out-of-fold", "each seed", "mean ± sd over seeds", "largest difference"]
    return table([*header, "sd over folds", "half the 95 % interval"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; the number of differences between two runs with one seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("drills"), help="scratch")
    parser.add_argument("--config", help="a config to train with several seeds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--runs", type=Path, help="where the runs of the seeds go")
    parser.add_argument("overrides", nargs="*", help="section.key=value, for --config")
    asked = parser.parse_args(arguments)
    folder = (asked.folder / "reproducibility").resolve()
    if asked.config:
        runs = (asked.runs or folder / "seeds").resolve()
        train_seeds(asked.config, asked.overrides, asked.seeds, runs)
        print(seed_table([runs / f"seed_{seed}" for seed in asked.seeds]))
        return 0
    rows, wrong = one_seed_twice(folder)
    for line in wrong[:20]:
        print(f"WRONG: {line}", flush=True)
    print(table(["cv and ensemble-predict", "files compared", "that differ"], rows))
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(min(1, main()))
