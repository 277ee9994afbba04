"""Memory and time of `prepare`, `cv` and `ensemble-predict` as a data set grows.

    python benchmarks/scaling.py --rows 10000 100000 400000 [--stages prepare cv predict]

Makes data sets of so many rows: 32 px JPEGs, a few hundred different ones under hard links, a tiny
network of one convolution, one epoch, no views. Each verb runs as it does from a shell, in a
process of its own. Printed for each: wall and processor seconds per 10,000 images, and the peak of
the memory that the process owns (RssAnon: without the pages of the memory-mapped store, which the
kernel takes back when it likes). Also what it takes beyond the smallest data set's, per image.

Needs Linux (/proc), about 1.5 kB a row on the disk and 0.5 GB for inodes of a million files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
DIFFERENT = 512
A_FOLDER = 10_000
CODES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")
SHARES = (0.67, 0.11, 0.11, 0.05, 0.03, 0.015, 0.015)


def make_pictures(folder):
    """A few hundred different pictures, whose colours tell the class to a network."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(DIFFERENT):
        base = 40 + 28 * (number % len(CODES))
        image = rng.integers(base - 30, base + 30, (SIDE, SIDE, 3)).clip(0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def make_data_set(root, pictures, rows):
    """`rows` files in folders of 10,000, and a table of them; a quarter share a lesion."""
    rng = np.random.default_rng(1)
    classes = rng.choice(len(CODES), rows, p=SHARES)
    lines = ["image_id,path,dx,lesion_id,age,sex,localization"]
    for row in range(rows):
        folder = root / "images" / f"{row // A_FOLDER:03d}"
        if row % A_FOLDER == 0:
            folder.mkdir(parents=True)
        name = f"ISIC_{row:07d}"
        number = int(classes[row]) + len(CODES) * (row % (DIFFERENT // len(CODES)))
        os.link(pictures / f"{number}.jpg", folder / f"{name}.jpg")
        lesion = f"{CODES[classes[row]]}_{row - row % 4 if row % 4 == 1 else row}"
        age, sex = 20 + row % 60, ("female", "male")[row % 2]
        path = f"images/{folder.name}/{name}.jpg"
        lines.append(f"{name},{path},{CODES[classes[row]]},{lesion},{age},{sex},back")
    (root / "images.csv").write_text("\n".join(lines) + "\n")


def make_backbone(path):
    """One convolution: what is measured is everything around the network."""
    program = (
        "import keras, sys\n"
        f"x = inputs = keras.Input(({SIDE}, {SIDE}, 3))\n"
        "x = keras.layers.Rescaling(1 / 127.5, -1.0)(x)\n"
        "x = keras.layers.Conv2D(8, 8, strides=8, activation='relu')(x)\n"
        "keras.Model(inputs, x).save(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)


def measure(arguments, place):
    """Run the command line once: wall seconds, processor seconds, peak of owned memory in MB."""
    command = [sys.executable, "-c", "from kderm.cli import main; main()", *arguments]
    log = place / "log.txt"
    start = time.monotonic()
    with open(log, "a") as output:
        process = subprocess.Popen(command, cwd=place, stdout=output, stderr=output)
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{log.read_text()[-3000:]}")
    seconds = time.monotonic() - start
    return seconds, usage.ru_utime + usage.ru_stime, peak[0] / 1024


def _watch(pid, peak):
    """Keep the highest RssAnon (kB) of a process until it ends."""
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
        if not found:  # a zombie has no memory
            return
        peak[0] = max(peak[0], *found)
        time.sleep(0.02)


def commands(root, backbone, run):
    """The three verbs, by stage; `run` is the one that predicts."""
    options = [
        *("data.dataset=table", f"data.root={root}", "data.table=images.csv"),
        *(f"image.size={SIDE}", f"image.stored_height={SIDE}", f"model.preset=file/{backbone}"),
        *("train.epochs=1", "train.frozen_epochs=0", "train.batch_size=256", "folds.k=2"),
        *("predict.views=none", "predict.batch_size=256", "train.learning_rate=0.003"),
    ]
    return {
        "prepare": ["prepare", "--run", "scaling", *options],
        "cv": ["cv", "--run", "scaling", *options],
        "predict": ["ensemble-predict", f"{root}/images", "--run", f"{run}", "--out", "predicted"],
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 400_000])
    parser.add_argument("--stages", nargs="+", default=["prepare", "cv", "predict"])
    parser.add_argument("--folder", type=Path, help="on this disk (default: a temporary folder)")
    options = parser.parse_args()
    print(f"{'':10}{'rows':>9}{'wall s':>9}{'cpu s':>9}{'cpu s':>10}{'peak MB':>9}{'more':>12}")
    print(f"{'':10}{'':>9}{'':>9}{'':>9}{'/10,000':>10}{'owned':>9}{'bytes/image':>12}")
    first, run = {}, None
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        make_pictures(place / "pictures")
        make_backbone(place / "backbone.keras")
        for rows in options.rows:
            root = place / f"rows_{rows}"
            make_data_set(root, place / "pictures", rows)
            run = run or root / "runs" / "scaling"  # a member's size is not the data set's
            for stage, arguments in commands(root, place / "backbone.keras", run).items():
                trains_predictor = stage == "cv" and rows == options.rows[0]
                if stage not in options.stages and not trains_predictor:
                    continue
                wall, cpu, peak = measure(arguments, root)
                smallest, at = first.setdefault(stage, (peak, rows))
                more = f"{(peak - smallest) * 2**20 / (rows - at):.0f}" if rows > at else ""
                print(
                    f"{stage:10}{rows:9}{wall:9.1f}{cpu:9.1f}{cpu / rows * 10_000:10.2f}"
                    f"{peak:9.0f}{more:>12}",
                    flush=True,
                )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores; load averages at the end {load}")


if __name__ == "__main__":
    main()
