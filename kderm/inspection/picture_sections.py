"""The later sections of the inspection pages: quality, preprocessing, duplicates and leakage.

As `kderm.inspection.sections`: each function adds a card and returns findings.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import html_page as page
from kderm.atomic import write_csv
from kderm.data.checked import BY
from kderm.data.images import UnreadableImage, read_image
from kderm.data.preprocess import STEPS
from kderm.errors import UserError
from kderm.html_page import Cell, Page
from kderm.inspection import figures
from kderm.inspection.association import associations
from kderm.inspection.quality import FLAGS
from kderm.inspection.sections import Findings, p_value
from kderm.inspection.subject import MOST_LINES, Subject

_SHOWN_PAIRS = 12
_SHOWN_FLAGGED = 8
_SAMPLES = 6
_MUCH_HAIR = 0.25
_SHOWN_COLUMNS = 15
# From which share of bluer-than-red images a source as a whole is called so.
_MOSTLY_BLUE = 0.8


def quality(subject: Subject, to: Page, directory: Path) -> Findings:
    """File sizes, and flags of quality by class."""
    table = subject.table.iloc[subject.measured].reset_index(drop=True)
    columns = {f"is_{name.replace(' ', '_')}": subject.flags[name].to_numpy() for name in FLAGS}
    ids = table[["image_id", "label", "source"]]
    whole = pd.concat([ids, subject.sizes, subject.quality.round(4)], axis=1).assign(**columns)
    write_csv(directory / "quality.csv", whole)
    tests = _flag_tests(subject, table)
    sample = len(table) < len(subject.table)
    to.section(
        "Image quality",
        page.text(
            f"Measured on a random sample of {len(table):,} images."
            if sample
            else f"Measured on all {len(table):,} images, on the stored frame.",
            soft=True,
        ),
        page.heading("Files"),
        _size_table(subject),
        page.heading("Flags, percent of each class"),
        _flag_table(subject, table, tests),
        "" if subject.quality["hair"].notna().any() else page.text(
            "Hair was not looked for: it needs pip install -e '.[opencv]'.", soft=True
        ),
        page.charts(*_quality_charts(subject, table, directory)),
        *_flagged(subject, table),
    )  # fmt: skip
    return _quality_findings(subject, table, tests)


def _size_table(subject: Subject) -> str:
    sizes = subject.sizes
    counts = sizes.value_counts(["width", "height", "format"])
    rows = [
        [f"{width} x {height}" if width else "not known", kind, f"{count:,}",
         f"{100 * count / len(sizes):.1f} %"]
        for (width, height, kind), count in counts.head(8).items()
    ]  # fmt: skip
    if len(counts) > 8:
        rest = int(counts.iloc[8:].sum())
        rows.append(
            [f"{len(counts) - 8} others", "", f"{rest:,}", f"{100 * rest / len(sizes):.1f} %"]
        )
    return page.table(["pixels", "format", "images", "share"], rows)


def _flag_tests(subject: Subject, table: pd.DataFrame) -> dict[str, pd.Series]:
    """Flag -> the row of its test against the class, where there is one."""
    tests = {}
    for name in FLAGS:
        flagged = subject.flags[name].map({True: "yes", False: "no"})
        rows = associations(table.assign(flag=flagged), ["flag"])
        if len(rows):
            tests[name] = rows.iloc[0]
    return tests


def _flag_table(subject: Subject, table: pd.DataFrame, tests: dict[str, pd.Series]) -> str:
    rows = []
    for name, meaning in FLAGS.items():
        flagged = subject.flags[name].to_numpy()
        shares = [flagged.mean()]
        for code in subject.codes:
            own = (table["label"] == code).to_numpy()
            shares.append(flagged[own].mean() if own.any() else np.nan)
        test = tests.get(name)
        cells = [
            Cell("–" if np.isnan(share) else f"{100 * share:.1f}", shade=0.7 * np.nan_to_num(share))
            for share in shares
        ]
        effect = "–" if test is None else f"{test['effect']:.2f} (p {p_value(test['p'])})"
        rows.append([name, *cells, effect, meaning])
    header = ["", "all", *subject.codes, "Cramer's V", "meaning"]
    return page.table(header, rows)


def _quality_charts(subject: Subject, table: pd.DataFrame, directory: Path) -> list[str]:
    drawn = []
    for name, words in (
        ("sharpness", "fine detail (log10)"),
        ("brightness", "mean brightness, 0 to 255"),
        ("redness", "mean red less mean blue"),
        ("hair", "share covered by dark hair"),
    ):
        values = subject.quality[name]
        if not values.notna().any():
            continue
        chart = figures.quality_by_class(values, table["label"], subject.codes, words)
        height = 0.3 * len(subject.codes) + 1.0
        paths = figures.draw(directory / f"figures/{name}.png", height, chart)
        drawn.append(page.chart(paths, "Median, middle half and middle 90 % of each class."))
    return drawn


def _flagged(subject: Subject, table: pd.DataFrame) -> list[str]:
    """Pictures of the worst of each flag."""
    order = {
        "blurred": subject.quality["sharpness"],
        "dark corners": -subject.quality["dark_corners"],
        "hair": -subject.quality["hair"],
        "too dark": subject.quality["brightness"],
        "too bright": -subject.quality["brightness"],
        "bluer than red": subject.quality["redness"],
    }
    parts = []
    for name in FLAGS:
        flagged = subject.flags[name].to_numpy()
        if flagged.any():
            worst = order[name][flagged].sort_values(kind="stable").index[:_SHOWN_FLAGGED]
            parts.append(page.heading(f"{name[0].upper()}{name[1:]}: {flagged.sum():,} images"))
            parts.append(
                page.grid(
                    (
                        subject.frame(subject.measured[row]),
                        f"{table['image_id'][row]} · {table['label'][row]}",
                    )
                    for row in worst
                )
            )
    return parts


def _quality_findings(
    subject: Subject, table: pd.DataFrame, tests: dict[str, pd.Series]
) -> Findings:
    found: Findings = []
    blue = subject.flags["bluer than red"].groupby(table["source"].to_numpy()).mean()
    for name, share in blue.items():
        if share >= _MOSTLY_BLUE:
            where = f" of {name}" if len(blue) > 1 else ""
            found.append(
                (
                    "bad",
                    f"{100 * share:.0f} % of the images{where} are bluer than red, which skin is "
                    "not: red and blue look swapped in the files.",
                )
            )
    for name, test in tests.items():
        if test["effect"] >= 0.1 and test["p"] < 0.01:
            share = 100 * subject.flags[name].mean()
            found.append(
                (
                    "warn",
                    f'"{name}" ({share:.1f} % of images) goes with the class (Cramer\'s V '
                    f"{test['effect']:.2f}): a member may learn it in place of the lesion.",
                )
            )
    lost = int((subject.sizes["width"] == 0).sum())
    if lost:
        found.append(("warn", f"The size of {lost} files could not be read from their header."))
    return found


def preprocessing(subject: Subject, to: Page, directory: Path) -> Findings:
    """Each step of preprocessing on pictures that need it most and on some at random."""
    chosen = subject.config.image.preprocess
    specs, missing = {}, []
    for step in STEPS:
        try:
            specs[step] = replace(subject.spec, preprocess=(step,))
        except UserError:
            missing.append(step)
    if len(chosen) > 1 and not set(chosen) & set(missing):
        specs[" + ".join(chosen)] = replace(subject.spec, preprocess=chosen)
    lines = []
    for row, why in _samples(subject):
        line = [(subject.frame(row), f"before · {why}" if why else "before")]
        try:
            path = subject.table["path"][row]
            line += [(read_image(path, spec), name) for name, spec in specs.items()]
        except UnreadableImage:  # gone since it was stored
            continue
        lines.append(line)
    in_use = ", ".join(chosen) or "none of them"
    notes = [f"{step}: {row.does}" for step, row in STEPS.items()]
    to.section(
        "Preprocessing",
        page.text(f"Each step by itself; the config uses {in_use} (image.preprocess)."),
        page.text("; ".join(notes) + ".", soft=True),
        page.text(f"{', '.join(missing)} not shown: pip install -e '.[opencv]'.", soft=True)
        if missing
        else "",
        page.rows(lines),
    )
    return []


def _samples(subject: Subject) -> list[tuple[int, str]]:
    """Rows to show, each with why: the extreme ones first, then evenly spread ones."""
    measures = subject.quality
    # So much hair that hair_removal leaves the picture alone would show nothing.
    hair = measures["hair"].where(measures["hair"] < _MUCH_HAIR)
    wanted = (
        (hair, "much hair"),
        (measures["dark_corners"], "dark corners"),
        (measures["redness"].abs(), "strong colour"),
    )
    chosen: dict[int, str] = {}
    for values, why in wanted:
        for place in values[values > 0].sort_values(ascending=False, kind="stable").index[:3]:
            row = int(subject.measured[place])
            if row not in chosen:
                chosen[row] = why
                break
    spread = np.linspace(0, len(subject.table) - 1, 2 * _SAMPLES).astype(int)
    for row in spread[1::2]:
        if len(chosen) < _SAMPLES:
            chosen.setdefault(int(row), "")
    return list(chosen.items())


def duplicates(subject: Subject, to: Page, directory: Path) -> Findings:
    """The same picture twice, and whether grouping knows."""
    pairs, conflicts, loose = subject.checked.pairs, subject.checked.conflicts, subject.ungrouped
    write_csv(directory / "pairs.csv", pairs)
    write_csv(directory / "duplicates.csv", loose[["image_id_1", "image_id_2"]])
    counts = pairs["by"].value_counts()
    words = (
        f"{len(pairs):,} pairs of images are the same: "
        + ", ".join(f"{counts[by]:,} {words}" for by, words in BY.items() if by in counts)
        + f". {len(loose):,} of them lie in different groups, so that folds could part them."
        if len(pairs)
        else "No image is there twice, by id, by file or by picture."
    )
    parts = [page.text(words)]
    found: Findings = [] if len(loose) else [("good", words)]
    if len(loose):
        advice = (
            "duplicates.csv beside this page lists these pairs: check them, and set "
            "data.duplicates to it, so that each pair stays in one fold."
        )
        found.append(("warn", f"{words} {advice}"))
        parts += [page.text(advice), page.heading("Pairs in different groups"), page.pairs(
            _pair(subject, pair) for pair in loose.head(_SHOWN_PAIRS).to_dict("records")
        )]  # fmt: skip
    if len(conflicts):
        found.append(
            ("bad", f"Pairs of the same picture with different labels: {len(conflicts):,}.")
        )
        parts += [page.heading("Different labels"), page.pairs(
            _pair(subject, pair) for pair in conflicts.head(_SHOWN_PAIRS).to_dict("records")
        )]  # fmt: skip
    to.section("Duplicates", *parts)
    return found


def _pair(subject: Subject, pair: dict) -> tuple[np.ndarray, np.ndarray, str]:
    rows = [subject.row_of[pair[name]] for name in ("image_id_1", "image_id_2")]
    told = " = ".join(f"{subject.table['image_id'][r]} ({subject.table['label'][r]})" for r in rows)
    return subject.frame(rows[0]), subject.frame(rows[1]), f"{told}, {BY[pair['by']]}"


def leakage(subject: Subject, to: Page, directory: Path) -> Findings:
    """Columns of the raw tables that give the class away."""
    if not subject.columns:
        to.section("Leaking columns", page.text("There is no table with columns to look at."))
        return []
    parts = [
        page.text(
            "How well each column of the raw table tells the class by itself: balanced accuracy of "
            "guessing an image from the others with the same value. Columns that were filled in "
            "after the diagnosis leak, however little they tell; a member must not see them.",
            soft=True,
        )
    ]
    found: Findings = []
    whole = pd.concat(
        [table.assign(table=name) for name, table in subject.columns.items()], ignore_index=True
    )
    write_csv(directory / "columns.csv", whole)
    for name, columns in subject.columns.items():
        parts.append(page.heading(name))
        parts.append(_column_table(columns))
        strong = columns[columns["verdict"].isin(["nearly determines the class", "tells much"])]
        for row in strong.to_dict("records"):
            found.append(
                (
                    "warn",
                    f"The column {row['column']} of {name} {row['verdict']} (balanced accuracy "
                    f"{row['balanced_accuracy']:.2f} by itself): known before the diagnosis?",
                )
            )
        leaks = columns.loc[columns["leaks"] != "", "column"].tolist()
        if leaks:
            found.append(("good", f"Not to be used as metadata, in {name}: {', '.join(leaks)}."))
    parts.append(page.text(f"At most the first {MOST_LINES:,} lines of a table.", soft=True))
    to.section("Leaking columns", *parts)
    return found


def _column_table(columns: pd.DataFrame) -> str:
    shown = pd.concat([columns.head(_SHOWN_COLUMNS), columns[columns["leaks"] != ""]])
    rows = [
        [
            row["column"],
            f"{row['values']:,}",
            f"{100 * row['missing']:.0f} %",
            Cell(f"{row['balanced_accuracy']:.2f}", row["skill"]),
            row["verdict"] + (f": {row['leaks']}" if row["leaks"] else ""),
        ]
        for row in shown.drop_duplicates("column").to_dict("records")
    ]
    return page.table(["column", "values", "missing", "tells the class", ""], rows)
