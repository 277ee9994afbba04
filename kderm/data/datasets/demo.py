"""The demo data set: synthetic lesions, on disk as HAM10000 lies there in Kaggle's layout.

Stands in for a raw data set, so that the whole flow runs with nothing downloaded. How a lesion
looks is in `kderm.data.datasets.demo_drawing`; here are counts, people and files.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from kderm.data.datasets.demo_drawing import draw_lesion, draw_photo, render
from kderm.errors import UserError
from kderm.leftovers import temporary_beside

METADATA_NAME = "HAM10000_metadata.csv"
# Of the demo that is trained on, whatever the seed of the run: runs of it can be compared.
DEMO_SEED = 42
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
_RECIPE_NAME = "demo.json"
# Raised when the drawing changes, so that an old folder is not taken for a new one.
_DRAWING = 1
# HAM10000's own counts: images, lesions.
_COUNTS = {
    "akiec": (327, 228),
    "bcc": (514, 327),
    "bkl": (1099, 727),
    "df": (115, 73),
    "mel": (1113, 614),
    "nv": (6705, 5403),
    "vasc": (142, 98),
}
# Mean and standard deviation of the age, share of men, likely sites: roughly HAM10000's.
_PEOPLE = {
    "akiec": (66, 12, 0.65, ("face", "upper extremity", "lower extremity", "back")),
    "bcc": (67, 13, 0.62, ("back", "face", "trunk", "chest", "neck")),
    "bkl": (64, 14, 0.57, ("back", "face", "trunk", "abdomen", "upper extremity")),
    "df": (52, 14, 0.45, ("lower extremity", "lower extremity", "upper extremity", "trunk")),
    "mel": (61, 16, 0.6, ("back", "upper extremity", "chest", "lower extremity", "trunk")),
    "nv": (
        43,
        17,
        0.52,
        ("back", "trunk", "lower extremity", "abdomen", "upper extremity", "foot"),
    ),
    "vasc": (51, 20, 0.5, ("trunk", "back", "abdomen", "lower extremity", "chest")),
}
_ANY_SITE = (
    "back",
    "lower extremity",
    "trunk",
    "upper extremity",
    "abdomen",
    "face",
    "scalp",
    "hand",
)
_UNKNOWN = 0.025  # share of lesions without age, and of those without sex, and without site


def write_demo(
    root: Path,
    images: int,
    seed: int = DEMO_SEED,
    height: int = 72,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a demo data set to `root`, whole or not at all; do nothing if it is there already.

    Args:
        root: the folder to make.
        images: how many images, at least 70; about three quarters as many lesions.
        seed: the same seed gives the same files.
        height: of an image in pixels; the width is 4/3 of it.
        progress: called with (images done, images in all) after each image.

    Raises:
        UserError: too few images, or `root` holds something else.
    """
    root = Path(root)
    recipe = {"images": images, "seed": seed, "height": height, "drawing": _DRAWING}
    if images < 70:
        raise UserError(f"Expected at least 70 demo images, ten a class. Received: {images}.")
    if _is_complete(root, recipe):
        return
    # A folder appears by one rename; files inside need no renaming of their own.
    with temporary_beside(root) as temporary:
        _write_files(temporary, plan_demo(images, seed), seed, height, progress)
        (temporary / _RECIPE_NAME).write_text(json.dumps(recipe) + "\n", encoding="utf-8")
        try:
            os.rename(temporary, root)
        except OSError:
            # Another process may have made it in the meantime.
            if not _is_complete(root, recipe):
                raise


def plan_demo(images: int, seed: int) -> pd.DataFrame:
    """The metadata table with HAM10000's columns, and `lesion` and `view`, the numbers to draw by.

    Every class has at least seven images of five lesions, from 560 images on sixteen of ten, so
    that each of five folds can hold each class.
    """
    rng = np.random.default_rng([seed, 0])
    lesions = []
    for code, (count, distinct) in _class_counts(images).items():
        # Every lesion once, then further looks at lesions drawn at random.
        extra = rng.integers(distinct, size=count - distinct)
        looks = 1 + np.bincount(extra, minlength=distinct)
        lesions += [{**_person(rng, code), "dx": code, "looks": looks} for looks in looks.tolist()]
    order = rng.permutation(len(lesions))
    rows = []
    for number, index in enumerate(order.tolist()):
        lesion = lesions[index]
        for view in range(lesion["looks"]):
            rows.append(
                {**lesion, "lesion_id": f"LESION_{number:07d}", "lesion": number, "view": view}
            )
    table = pd.DataFrame(rows).drop(columns="looks")
    table["image_id"] = [f"DEMO{seed}_{number:07d}" for number in rng.permutation(images).tolist()]
    return table


def _class_counts(images: int) -> dict[str, tuple[int, int]]:
    """Images and lesions of each class: HAM10000's shares, with a floor for the rare ones."""
    floor = int(np.clip(images // 35, 7, 16))
    total = sum(count for count, _ in _COUNTS.values())
    counts = {code: max(floor, round(images * n / total)) for code, (n, _) in _COUNTS.items()}
    counts["nv"] += images - sum(counts.values())
    return {
        code: (count, max(round(count * _COUNTS[code][1] / _COUNTS[code][0]), min(count, 5)))
        for code, count in counts.items()
    }


def _person(rng: np.random.Generator, code: str) -> dict:
    mean, deviation, men, sites = _PEOPLE[code]
    age = float(np.clip(5 * round(rng.normal(mean, deviation) / 5), 0, 85))
    sex = "male" if rng.random() < men else "female"
    sites = sites if rng.random() < 0.75 else _ANY_SITE
    site = sites[rng.integers(len(sites))]
    missing = rng.random(3) < _UNKNOWN
    confirmed = 1.0 if code in ("akiec", "bcc", "mel") else 0.4
    return {
        "dx_type": "histo" if rng.random() < confirmed else "follow_up",
        "age": None if missing[0] else age,
        "sex": "unknown" if missing[1] else sex,
        "localization": "unknown" if missing[2] else site,
    }


def _write_files(
    root: Path,
    table: pd.DataFrame,
    seed: int,
    height: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for part in PARTS:
        (root / part).mkdir(parents=True)
    ranks = table["image_id"].rank().to_numpy()
    lesion, drawn = None, -1
    for done, row in enumerate(table.itertuples(index=False)):
        if row.lesion != drawn:
            lesion = draw_lesion(np.random.default_rng([seed, 1, row.lesion]), row.dx)
            drawn = row.lesion
        photo = draw_photo(np.random.default_rng([seed, 2, row.lesion, row.view]))
        part = PARTS[0] if ranks[done] <= len(table) / 2 else PARTS[1]
        picture = Image.fromarray(render(lesion, photo, height))
        picture.save(root / part / f"{row.image_id}.jpg", quality=92)
        if progress is not None:
            progress(done + 1, len(table))
    columns = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    text = table[columns].to_csv(index=False, lineterminator="\n")
    (root / METADATA_NAME).write_text(text, encoding="utf-8")


def _is_complete(root: Path, recipe: dict) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    count = sum(1 for part in PARTS for _ in (root / part).glob("*.jpg"))
    if found == recipe and count == recipe["images"] and (root / METADATA_NAME).is_file():
        return True
    raise UserError(
        f"Expected no folder at {root}, or a whole demo data set ({recipe}). Received: a folder "
        f"with {count} demo images{f' ({found})' if found else ''}. Delete the folder, or choose "
        "another."
    )
