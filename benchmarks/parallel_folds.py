"""All folds of a run one after another, and the same folds side by side: `cv --jobs`.

    python benchmarks/parallel_folds.py --jobs 2 [--preset keras_applications/efficientnetb0]

Both train the same demo images to the same end, in turns, each time as a run of its own that begins
with its data prepared. What is timed is the training of all folds, the start of the processes
included; the report and the ensemble behind it are not. On GPUs the folds share the cards; on a CPU
each takes its part of the cores. Printed too: the mean held-out AUC of both. (With equal threads
their predictions are the same, as a test holds; other threads round other sums.)
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path


def trained(name, config, jobs):
    """Train all folds as run `name`: the run and the seconds."""
    from kderm.data.prepare import prepare
    from kderm.run_dir import RunDir
    from kderm.training.crossval import train_all

    run = RunDir(Path("runs") / name)
    data = prepare(config, run)
    run.config.write_text(config.to_yaml())
    start = time.perf_counter()
    train_all(config, data, run, range(config.folds.k), jobs)
    return run, time.perf_counter() - start


def mean_auc(run, folds):
    """The mean over the folds of the held-out macro AUC."""
    scores = [json.loads(run.fold(fold).done.read_text())["scores"] for fold in range(folds)]
    return statistics.mean(score["macro_auc"] for score in scores)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="keras_applications/efficientnetb0")
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="network input, pixels a side")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=560, help="of the demo data set")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="timed runs of each")
    options = parser.parse_args()

    from kderm.config.reading import load_config
    from kderm.runtime import device_name
    from kderm.training.launchers.shares import leave_room_on_the_gpu

    leave_room_on_the_gpu()
    overrides = [
        *(f"data.demo_images={options.images}", f"folds.k={options.folds}"),
        *(f"model.preset={options.preset}", "model.weights=none", f"image.size={options.size}"),
        *(f"train.batch_size={options.batch}", f"train.epochs={options.epochs}"),
        *("train.frozen_epochs=0", "predict.views=none"),
    ]
    config = load_config(None, overrides)
    seconds, scores = {1: [], options.jobs: []}, {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number in range(options.rounds):
            for jobs, times in seconds.items():
                run, taken = trained(f"jobs{jobs}_{number}", config, jobs)
                times.append(taken)
                scores[jobs] = mean_auc(run, options.folds)
        os.chdir("/")
    print(f"\n{options.folds} folds of {options.preset}, {options.size} px, {device_name()}")
    first = statistics.median(seconds[1])
    for jobs, times in seconds.items():
        taken = statistics.median(times)
        print(f"--jobs {jobs}: {taken:8.1f} s {first / taken:6.2f}x   AUC {scores[jobs]:.4f}")
    print(f"load averages {os.getloadavg()}")


if __name__ == "__main__":
    main()
