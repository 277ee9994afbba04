"""A thousand damaged images and tables: each gets its line, and no neighbour's answer changes.

    python -m benchmarks.drills damaged --images 800 --tables 200

Good pictures lie between damaged ones (`benchmarks.drills.broken_images`, `unusual_images`) in one
folder and one table. `ensemble-predict` is asked for the good ones alone and for all, `prepare` for
all. The commands run without root's right to read every file.
`benchmarks.drills.damaged_tables` go to both readers of tables.
"""

import argparse
import csv
import hashlib
import os
import re
import resource
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drills import broken_images  # noqa: F401 - enters its kinds
from benchmarks.drills.damaged_tables import TABLES, read_for_prediction, read_for_training
from benchmarks.drills.image_kinds import KINDS, encoded
from benchmarks.drills.unusual_images import NAMES, PLACES
from benchmarks.drills.workplace import REPOSITORY, TINY, Ended, Workplace, table

GOOD = 60
# What float32 leaves open in a number of a prediction.
ROUNDING = 2e-6
# Root reads everything: without these two rights it is stopped by a file's own.
AS_A_USER = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
SETTINGS = (
    *("data.dataset=table", "data.root=all", "data.table=all.csv", "image.size=32"),
    *("folds.k=3", "data.drop_unreadable=true"),
)


@dataclass
class Made:
    """The files of the drill.

    Attributes:
        good: names of the good pictures.
        damaged: name -> (kind, what is expected of it).
    """

    good: list[str] = field(default_factory=list)
    damaged: dict[str, tuple[str, str]] = field(default_factory=dict)


def photos() -> list[Image.Image]:
    """Real dermoscopy images where they are at hand (KDERM_DATA), else drawings of the demo."""
    root = Path(os.environ.get("KDERM_DATA", REPOSITORY.parent / "shared")) / "data"
    found = sorted(root.glob("isic_uda1/images/*.jpg"))[:20]
    found += sorted(root.glob("ham10000/*/*.jpg"))[:60]
    if found:
        return [Image.open(path).convert("RGB") for path in found]
    from kderm.data.datasets.demo_drawing import draw_lesion, draw_photo, render

    drawn = []
    for number in range(20):
        rng = np.random.default_rng([7, number])
        lesion = draw_lesion(rng, ("nv", "mel", "bkl")[number % 3])
        drawn.append(Image.fromarray(render(lesion, draw_photo(rng), 96)))
    return drawn


def make(folder: Path, count: int, pictures: Sequence[Image.Image], seed: int = 1) -> Made:
    """Write `GOOD` good pictures and `count` others into `folder`, in an order that mixes them."""
    folder.mkdir(parents=True)
    rng, made = np.random.default_rng(seed), Made()
    kinds = [*KINDS, *PLACES]
    order = rng.permutation(count + GOOD)
    for number, place in enumerate(order.tolist()):
        picture = pictures[int(rng.integers(len(pictures)))]
        name = f"{place:05d}"
        if number < GOOD:
            made.good.append(f"{name}_good.jpg")
            (folder / made.good[-1]).write_bytes(encoded(picture, quality=90))
            continue
        kind = kinds[(number - GOOD) % len(kinds)]
        slug = re.sub(r"\W", "_", kind)
        if kind in PLACES:
            expected, function = PLACES[kind]
            path = folder / f"{name}_{slug}.jpg"
            function(path, encoded(picture))
        else:
            expected, suffix, maker = KINDS[kind]
            path = folder / f"{name}_{slug}{suffix}"
            path.write_bytes(maker(rng, picture))
        made.damaged[path.name] = kind, expected
    for name in NAMES:  # good pictures under names that few files have
        path = folder / name
        path.write_bytes(encoded(pictures[int(rng.integers(len(pictures)))]))
        made.damaged[name] = "an odd name", "answer"
    return made


def write_table(path: Path, folder: str, names: Sequence[str]) -> None:
    """A CSV of images: id, path, a label and a lesion for `prepare`."""
    codes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["image_id", "path", "label", "lesion_id"])
        for name in names:
            own = image_id(name)
            label = codes[int(own[-6:], 16) % len(codes)]
            writer.writerow([own, f"{folder}/{name}", label, f"L{own}"])


def image_id(name: str) -> str:
    """An id for a file of any name; the same in every table."""
    return f"im_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """The rows of predictions.csv by image id, every cell as it is written."""
    with open(path, encoding="utf-8", newline="") as handle:
        return {row["image_id"]: row for row in csv.DictReader(handle)}


def same(own: str, other: str) -> bool:
    """Whether two cells say the same: texts and flags to the letter, numbers up to rounding.

    Numbers are written with seven digits; in float32 the last one may follow the shape of the batch
    that an image happened to be in.
    """
    if own == other:
        return True
    try:
        a, b = float(own), float(other)
    except ValueError:
        return False
    return abs(a - b) <= ROUNDING * max(1.0, abs(a))


def rounded_otherwise(made: Made, alone: Path, together: Path) -> tuple[int, int]:
    """Cells of good images that differ in their last digits, and all of their cells."""
    before, after = read_rows(alone), read_rows(together)
    pairs = [
        (own, after[image_id(name)].get(key))
        for name in made.good
        for key, own in before[image_id(name)].items()
    ]
    return sum(own != other for own, other in pairs), len(pairs)


def check_predictions(made: Made, alone: Path, together: Path) -> list[str]:
    """What is wrong with the predictions of all images, given those of the good ones alone."""
    before, after = read_rows(alone), read_rows(together)
    wrong = [f"{name}: no row" for name in made.damaged if image_id(name) not in after]
    for name in made.good:
        own, other = before[image_id(name)], after.get(image_id(name), {})
        if set(own) != set(other) or not all(same(own[key], other[key]) for key in own):
            wrong.append(f"{name}: another answer beside damaged files: {own} {other}")
    for name, (kind, expected) in made.damaged.items():
        row = after.get(image_id(name))
        if row is None:
            continue
        found = "error" if row["error"] else "answer"
        if expected not in ("either", found):
            wrong.append(f"{name} ({kind}): expected {expected}, found {found}: {row['error']}")
        numbers = [row[key] for key in row if key.startswith("p_")]
        if (found == "error") != all(number == "" for number in numbers):
            wrong.append(f"{name} ({kind}): {found} with the probabilities {numbers}")
    return wrong


def drill_images(place: Workplace, count: int, seed: int) -> tuple[list[list], list[str]]:
    """Predict and prepare good images alone, and among `count` damaged ones.

    Returns:
        rows of the table, and what was wrong.
    """
    pictures = photos()
    made = make(place.path / "all", count, pictures, seed)
    names = sorted([*made.good, *made.damaged])
    for name, listed in (("good.csv", sorted(made.good)), ("all.csv", names)):
        write_table(place.path / name, "all", listed)
    wrong: list[str] = []

    def run(*words: str) -> tuple[Ended, float]:
        begun = time.monotonic()
        ended = place.run(words, before=AS_A_USER)
        if ended.code or ended.traceback:
            wrong.append(f"{' '.join(words)}: {ended.code} {(ended.out + ended.err)[-3000:]}")
        return ended, time.monotonic() - begun

    run("ensemble-predict", "good.csv", "--out", "alone")
    alone_peak = _peak()
    ended, seconds = run("ensemble-predict", "all.csv", "--out", "together")
    peak = _peak()
    if ended.code == 0:
        predictions = place.path / "together" / "predictions.csv"
        alone = place.path / "alone" / "predictions.csv"
        wrong += check_predictions(made, alone, predictions)
        cells, of_all = rounded_otherwise(made, alone, predictions)
        print(f"good images: {cells} of {of_all} cells differ in their last digit", flush=True)
        errors = Counter(
            "error" if row["error"] else "answer" for row in read_rows(predictions).values()
        )
        row = [len(names), errors["answer"], errors["error"], f"{seconds:.0f}"]
        rows = [["ensemble-predict, a table", *row, f"{peak:.0f} ({alone_peak:.0f})"]]
    else:
        rows = []
    folder, seconds = run("ensemble-predict", "all", "--out", "folder")
    if folder.code == 0:
        found = read_rows(place.path / "folder" / "predictions.csv")
        errors = Counter("error" if row["error"] else "answer" for row in found.values())
        counts = [len(found), errors["answer"], errors["error"]]
        rows.append(["ensemble-predict, a folder", *counts, f"{seconds:.0f}", f"{_peak():.0f}"])
    prepared, seconds = run("prepare", *SETTINGS)
    dropped = re.findall(r"(\d+) images dropped", prepared.out + prepared.err)
    unread = sum(map(int, dropped))
    counts = [len(names), len(names) - unread, unread]
    rows.append(["prepare, drop_unreadable", *counts, f"{seconds:.0f}", f"{_peak():.0f}"])
    wrong += _check_refusal(place, made)
    return rows, wrong


def _check_refusal(place: Workplace, made: Made) -> list[str]:
    """Without data.drop_unreadable `prepare` must name the damaged images and train on nothing."""
    ended = place.run(("prepare", *SETTINGS[:-1]), before=AS_A_USER)
    if ended.code != 2 or ended.traceback:
        return [f"prepare did not refuse damaged images: {ended.code} {ended.err[-2000:]}"]
    named = [name for name in made.good if name in ended.err]
    return [f"prepare refuses the good images {named}"] if named else []


def _peak() -> float:
    """MiB of the largest child process so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def drill_tables(folder: Path, demo: Path, count: int) -> tuple[list[list], list[str]]:
    """Give `count` damaged tables to both readers.

    Args:
        folder: scratch.
        demo: a demo data set.
        count: how many, in turn of every kind.
    """
    root = folder / "tables"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(demo, root)
    path = root / "HAM10000_metadata.csv"
    text, wrong = path.read_text(encoding="utf-8"), []
    met: dict[str, Counter] = {"ensemble-predict": Counter(), "prepare, inspect, cv": Counter()}
    longest = 0.0
    before = os.getcwd()
    os.chdir(folder)
    try:
        for number in range(count):
            name = list(TABLES)[number % len(TABLES)]
            path.write_bytes(TABLES[name](np.random.default_rng(number), text))
            for reader, read, what in (
                ("ensemble-predict", read_for_prediction, path),
                ("prepare, inspect, cv", read_for_training, root),
            ):
                begun = time.monotonic()
                found = read(what)
                longest = max(longest, time.monotonic() - begun)
                kind = found.partition(":")[0]
                met[reader][kind] += 1
                if kind not in ("answered", "refused"):
                    wrong.append(f"{name}, {reader}: {found}")
    finally:
        os.chdir(before)
    rows = [
        [f"tables, {reader}", count, counts["answered"], counts["refused"], f"{longest:.1f}", ""]
        for reader, counts in met.items()
    ]
    return rows, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; the number of things that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=800, help="damaged ones")
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("drills"), help="scratch")
    asked = parser.parse_args(arguments)
    place = Workplace((asked.folder / "damaged" / "work").resolve())
    place.clear()
    ended = place.run(("cv", *TINY))
    if ended.code:
        raise SystemExit(ended.err)
    rows, wrong = drill_images(place, asked.images, asked.seed)
    demo = place.runs / "_data" / "demo-105x40-seed42"
    more, bad = drill_tables(place.path, demo, asked.tables)
    for line in [*wrong, *bad]:
        print(f"WRONG: {line[:3000]}\n", flush=True)
    header = ["given to", "files", "answered", "an error or a refusal", "s", "peak, MiB"]
    print(table(header, [*rows, *more]))
    return len(wrong) + len(bad)


if __name__ == "__main__":
    raise SystemExit(min(1, main()))
