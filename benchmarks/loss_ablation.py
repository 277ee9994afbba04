"""What the loss and the class weights do: one fold of a config for each row, the same budget.

    python benchmarks/loss_ablation.py --config configs/ham10000_lite0.yaml train.epochs=4

Trains runs `ablation_<row>` with the commands a user would type (so an interrupted table resumes),
then prints a Markdown table with 95 % intervals from resampling groups, from the saved tables.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from kderm.evaluation.measure import measure
from kderm.evaluation.predictions import read_predictions
from kderm.labels import label_space
from kderm.run_dir import RunDir, runs_root

# The last epoch's weights: a fold has one of them whatever its scores, so rows compare fairly.
CHECKPOINT = "last"
ROWS = {
    "cross-entropy": ["loss.name=cross_entropy", "loss.class_weights=none"],
    "weighted cross-entropy (sqrt)": ["loss.name=cross_entropy", "loss.class_weights=sqrt"],
    "weighted cross-entropy (balanced)": ["loss.name=cross_entropy", "loss.class_weights=balanced"],
    "focal": ["loss.name=focal", "loss.class_weights=none"],
    "focal + weights (sqrt)": ["loss.name=focal", "loss.class_weights=sqrt"],
    "focal + weights (balanced)": ["loss.name=focal", "loss.class_weights=balanced"],
}


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--labels", default="ham10000")
    arguments, overrides = parser.parse_known_args()
    tables = {}
    for row in arguments.rows:
        name = "ablation_" + "".join(c if c.isalnum() else "_" for c in row).strip("_")
        command = [sys.executable, "run.py", "train", "--fold", str(arguments.fold)]
        command += ["--config", arguments.config, "--run", name, *overrides, *ROWS[row]]
        command += [f"train.checkpoint={CHECKPOINT}"]
        subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[1])
        tables[row] = RunDir(runs_root() / name).fold(arguments.fold).oof
    print("\n| loss | macro AUC | balanced accuracy | macro F1 |\n|---|---|---|---|")
    for row, path in tables.items():
        found = measure(
            read_predictions(path, label_space(arguments.labels)), checkpoint=CHECKPOINT
        )["pooled"]
        cells = [
            f"{found[key]['value']:.3f} ({found[key]['low']:.3f} to {found[key]['high']:.3f})"
            for key in ("macro_auc", "balanced_accuracy", "macro_f1")
        ]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
