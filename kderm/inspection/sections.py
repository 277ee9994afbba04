"""The first sections of the inspection pages: classes, examples, lesions, age, sex and site.

Each function adds a card to the page, writes its tables and charts into the folder, and returns
findings: (bad, warn or good; words). Measures nothing that `subject` has not.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kderm import html_page as page
from kderm.atomic import write_csv
from kderm.html_page import Cell, Page
from kderm.inspection import figures
from kderm.inspection.association import FACTORS, associations, known, missing_values
from kderm.inspection.subject import Subject
from kderm.runtime import rng_for

Findings = list[tuple[str, str]]

_EXAMPLES = 8
# Fewer groups than this in a class make its numbers by fold a matter of luck.
_FEW_GROUPS = 25


def classes(subject: Subject, to: Page, directory: Path) -> Findings:
    """Images, lesions and patients of each class."""
    table, codes = subject.table, subject.codes
    label = table["label"]
    sources = table["source"].unique() if table["source"].nunique() > 1 else []
    rows = []
    for code in codes:
        part = table[label == code]
        rows.append(
            {
                "class": code,
                "name": subject.labels.names[subject.labels.index(code)],
                "malignant": code in subject.labels.malignant,
                "images": len(part),
                "share": len(part) / len(table),
                "lesions": part["lesion_id"].nunique(),
                "patients": part["patient_id"].nunique(),
                "groups": len(np.unique(subject.groups[(label == code).to_numpy()])),
                **{f"from {name}": int((part["source"] == name).sum()) for name in sources},
            }
        )
    counts = pd.DataFrame(rows)
    write_csv(directory / "classes.csv", counts)
    figures.draw(
        directory / "figures/classes.png",
        0.42 * len(codes) + 1.1,
        figures.class_counts(table, codes),
    )
    to.section("Classes", _class_table(subject, counts, list(sources)))
    return _rare_classes(counts)


def _class_table(subject: Subject, counts: pd.DataFrame, sources: list[str]) -> str:
    most = max(1, counts["images"].max())
    optional = [name for name in ("lesions", "patients") if counts[name].any()]
    header = ["class", "images", "share", *optional, *sources, "name"]
    colours = [
        (figures.class_colour(j, False), figures.class_colour(j, True)) for j in range(len(counts))
    ]
    lines = []
    for j, row in enumerate(counts.to_dict("records")):
        dot = " ●" if row["malignant"] else ""
        lines.append(
            [
                row["class"] + dot,
                Cell(f"{row['images']:,}", row["images"] / most, colours[j]),
                f"{100 * row['share']:.1f} %",
                *(f"{row[name]:,}" for name in optional),
                *(f"{row[f'from {name}']:,}" for name in sources),
                row["name"],
            ]
        )
    note = "● counts as malignant." if subject.labels.malignant else ""
    return page.table(header, lines) + (page.text(note, soft=True) if note else "")


def _rare_classes(counts: pd.DataFrame) -> Findings:
    found: Findings = []
    empty = counts.loc[counts["images"] == 0, "class"].tolist()
    if empty:
        found.append(("bad", f"No image of {', '.join(empty)}: it cannot be learnt or scored."))
    few = counts[(counts["images"] > 0) & (counts["groups"] < _FEW_GROUPS)]
    if len(few):
        named = [f"{row['class']} ({row['groups']})" for row in few.to_dict("records")]
        found.append(
            (
                "warn",
                f"Fewer than {_FEW_GROUPS} independent groups: {', '.join(named)}. A fold holds "
                "out a handful of them, and their numbers will have wide intervals.",
            )
        )
    there = counts[counts["images"] > 0]
    if len(there) > 1:
        ratio = there["images"].max() / there["images"].min()
        most, least = (
            there.loc[getattr(there["images"], f)(), "class"] for f in ("idxmax", "idxmin")
        )
        if ratio >= 10:
            found.append(
                (
                    "warn",
                    f"{most} has {ratio:.0f} times as many images as {least}: accuracy alone says "
                    "little, and the balance setting matters.",
                )
            )
    return found


def examples(subject: Subject, to: Page, directory: Path) -> Findings:
    """Pictures of each class, drawn at random, one a lesion."""
    parts = [
        page.text(
            f"{_EXAMPLES} drawn at random of each class, one a group. This is the stored frame, "
            f"{subject.spec.width} x {subject.spec.height} pixels, without preprocessing.",
            soft=True,
        )
    ]
    table = subject.table
    for j, code in enumerate(subject.codes):
        rows = np.flatnonzero((table["label"] == code).to_numpy())
        if not len(rows):
            continue
        rng = rng_for(subject.config.seed, 0, "inspect examples", j)
        rows = rng.permutation(rows)
        _, first = np.unique(subject.groups[rows], return_index=True)
        chosen = rows[np.sort(first)[:_EXAMPLES]]
        name = subject.labels.names[j]
        parts.append(page.heading(f"{code} · {name}" if name != code else code))
        parts.append(page.grid((subject.frame(row), table["image_id"][row]) for row in chosen))
    to.section("Examples", *parts)
    return []


def lesions(subject: Subject, to: Page, directory: Path) -> Findings:
    """Images of a lesion, and what a split that ignores lesions would leak."""
    table, k = subject.table, subject.config.folds.k
    sizes = pd.Series(subject.groups).map(pd.Series(subject.groups).value_counts()).to_numpy()
    leaked = float(np.mean(1 - (1 / k) ** (sizes - 1)))
    has_ids = table[["lesion_id", "patient_id"]].notna().any()
    groups = len(np.unique(subject.groups))
    if not has_ids.any():
        words = (
            "No lesion or patient ids: leakage between folds cannot be ruled out. Known "
            "duplicates can be listed in data.duplicates."
        )
        to.section("Lesions", page.text(words))
        return [("warn", words)]
    words = (
        f"{len(table):,} images are {groups:,} independent groups (by lesion, patient and listed "
        f"duplicates). If {k} folds were split by image, {100 * leaked:.0f} % of the images would "
        "have another image of their own group in training; kderm splits by group."
    )
    parts = [page.text(words)]
    if has_ids["lesion_id"]:
        chart = figures.draw(directory / "figures/lesions.png", 3.3, figures.lesion_sizes(table))
        parts.append(page.chart(chart, "How many images there are of a lesion."))
    without = int(table["lesion_id"].isna().sum())
    if has_ids["lesion_id"] and without:
        parts.append(page.text(f"{without:,} images have no lesion id.", soft=True))
    to.section("Lesions", *parts)
    return [("good", words)]


def people(subject: Subject, to: Page, directory: Path) -> Findings:
    """Age, sex and site by class, tests of association, missing values."""
    table, codes = subject.table, subject.codes
    missing = missing_values(table, codes)
    tests = associations(table)
    write_csv(directory / "missing.csv", missing)
    write_csv(directory / "associations.csv", tests)
    drawn = _people_charts(subject, directory)
    if not drawn:
        words = "The data set tells no age, sex or site."
        to.section("Age, sex and site", page.text(words))
        return []
    to.section(
        "Age, sex and site",
        page.charts(*drawn),
        page.heading("Association with the class"),
        _test_table(tests),
        page.text(
            "One image a lesion. With many images every difference is significant, so read the "
            "size of the effect. A class that is missing a value more often than others lets a "
            "member guess from the gap.",
            soft=True,
        ),
        page.heading("Missing values, percent of images"),
        _missing_table(missing, codes),
    )
    return _people_findings(tests)


def _people_charts(subject: Subject, directory: Path) -> list[str]:
    table, codes = subject.table, subject.codes
    height = 0.42 * len(codes) + 1.0
    drawn = []
    for factor, maker, caption in (
        ("age", figures.age_by_class, "Age: middle half, median, whiskers over the middle 90 %."),
        ("sex", figures.sex_by_class, "Sex, where known (number of images)."),
        ("site", figures.site_by_class, "Body site; a column adds up to 100."),
    ):
        if not known(table[factor]).any():
            continue
        sites = min(12, table.loc[known(table["site"]), "site"].nunique())
        tall = 0.32 * sites + 1.0 if factor == "site" else height
        chart = figures.draw(directory / f"figures/{factor}.png", tall, maker(table, codes))
        drawn.append(page.chart(chart, caption))
    return drawn


def _test_table(tests: pd.DataFrame) -> str:
    rows = [
        [
            row["factor"],
            row["test"],
            f"{row['n']:,}",
            f"{row['statistic']:.1f} ({row['freedom']})",
            p_value(row["p"]),
            f"{row['effect']:.3f}",
            f"{row['size']} ({row['measure']})",
        ]
        for row in tests.to_dict("records")
    ]
    header = ["", "test", "lesions", "statistic (df)", "p", "effect", "size"]
    return page.table(header, rows) or page.text("Nothing that could be tested.", soft=True)


def _missing_table(missing: pd.DataFrame, codes: tuple[str, ...]) -> str:
    rows = []
    for row in missing.to_dict("records"):
        shares = [row["all"], *(row[code] for code in codes)]
        cells = [
            Cell("–" if np.isnan(share) else f"{100 * share:.1f}", shade=0.7 * np.nan_to_num(share))
            for share in shares
        ]
        rows.append([row["column"], *cells])
    return page.table(["", "all", *codes], rows)


def _people_findings(tests: pd.DataFrame) -> Findings:
    found: Findings = []
    for row in tests.to_dict("records"):
        gap = row["factor"].endswith(" missing")
        if row["size"] in ("moderate", "strong") and row["p"] < 0.01:
            effect = f"{row['measure']} {row['effect']:.2f}"
            words = (
                f"Whether {row['factor'].removesuffix(' missing')} is known goes with the class "
                f"({effect}): a metadata branch could guess from the gap alone."
                if gap
                else f"{row['factor'].capitalize()} goes with the class ({effect}, {row['size']}): "
                "useful to a metadata branch, and a reason to look at subgroups."
            )
            found.append(("warn" if gap else "good", words))
    return found


def p_value(p: float) -> str:
    """A p-value for people."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def missing_words(table: pd.DataFrame) -> str:
    """How many images have no age, sex or site, in one line."""
    counts = {factor: int((~known(table[factor])).sum()) for factor in FACTORS}
    return ", ".join(f"{factor} {count:,}" for factor, count in counts.items())
