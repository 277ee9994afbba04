"""The benchmarks of README.md that need no data set, one after another, some of them smaller.

    python -m benchmarks
    python -m benchmarks --only training_step prediction

Takes about half an hour on two idle cores. A run named by --run adds those that need one.
"""

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent

# Script -> command lines that end in minutes; README.md has those of its tables.
TABLES: dict[str, list[str]] = {
    "training_step": [
        "--preset keras_applications/efficientnetb0",
        "--preset keras_cv/efficientnetv2_b0",
    ],
    "profile_step": [
        "--preset keras_applications/efficientnetb0 --threads 1 --rounds 3",
        "--preset keras_cv/efficientnetv2_b0 --threads 1 --rounds 3",
    ],
    "prediction": ["--images 8 --batch 8 --rounds 3"],
    "batches": ["--images 128 --rounds 5"],
    "intervals": [""],
    "epoch": ["--images 64 --size 128 --rounds 3"],
    "parallel_folds": ["--preset kderm/small_cnn --size 48 --folds 4 --images 280 --batch 16"],
    "scaling": ["--rows 10000 100000 --stages prepare predict"],
}
OF_A_RUN: dict[str, list[str]] = {
    "prediction": ["--peer efficientnet_lite0 --early-exit 0.03 --images 8 --batch 8"],
    "prediction_cost": ["--engines openvino:bfloat16,openvino:int8"],
}


def commands(only: list[str] | None, run: str | None) -> list[list[str]]:
    """The command lines to run, of all scripts or of those in `only`."""
    wanted = [(name, line.split()) for name, lines in TABLES.items() for line in lines]
    if run is not None:
        for name, lines in OF_A_RUN.items():
            place = [run] if name == "prediction_cost" else ["--run", run]
            wanted += [(name, [*place, *line.split()]) for line in lines]
    return [[name, *words] for name, words in wanted if only is None or name in only]


def main() -> int:
    """Run them in turn; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted({*TABLES, *OF_A_RUN}))
    parser.add_argument("--run", help="folder of a finished run")
    arguments = parser.parse_args()
    failed = 0
    for name, *words in commands(arguments.only, arguments.run):
        print(f"\n## python benchmarks/{name}.py {' '.join(words)}\n", flush=True)
        script = str(FOLDER / f"{name}.py")
        failed += subprocess.run([sys.executable, script, *words], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
