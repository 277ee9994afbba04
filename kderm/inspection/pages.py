"""`inspect`: one HTML file that shows a data set, with its figures and tables beside it.

Puts together what `subject` gathered and the sections show. Trains nothing, splits nothing, and
refuses no data set for its problems: they are what the pages are for.
"""

from pathlib import Path

from kderm import html_page as page
from kderm.atomic import write_text
from kderm.config.schema import Config
from kderm.html_page import Page
from kderm.inspection import picture_sections, sections
from kderm.inspection.subject import Subject, gather

_SECTIONS = (
    sections.classes,
    sections.examples,
    sections.lesions,
    sections.people,
    picture_sections.quality,
    picture_sections.preprocessing,
    picture_sections.duplicates,
    picture_sections.leakage,
)
_ORDER = ("bad", "warn", "good")
_MARKS = {"bad": "!!", "warn": "! ", "good": "  "}


def inspect_data(config: Config, directory: Path) -> str:
    """Write the pages of a config's data set.

    Args:
        config: the run's config; its data, image, folds.k and seed are used.
        directory: gets index.html, figures/*.png and the tables as CSV.

    Returns:
        What was found, for the terminal.

    Raises:
        UserError: a source that cannot be read at all, or without a single usable image.
    """
    subject = gather(config)
    body = Page(_title(subject), "")
    found = _table_findings(subject)
    for add in _SECTIONS:
        found += add(subject, body, directory)
    found.sort(key=lambda item: _ORDER.index(item[0]))
    body.lead = _lead(subject, found)
    index = directory / "index.html"
    write_text(index, body.html())
    lines = [f"{_MARKS[kind]} {words}" for kind, words in found]
    return "\n".join([*_facts_line(subject), "", *lines, "", f"Open {index}"])


def _title(subject: Subject) -> str:
    sources, data = subject.checked.sources, subject.config.data
    if data.sources or data.is_demo:
        return " + ".join(source.name for source in sources)
    (source,) = sources
    parts = [source.name, source.root.resolve().name, source.table and source.table.stem]
    return ", ".join(dict.fromkeys(filter(None, parts)))


def _lead(subject: Subject, found: sections.Findings) -> str:
    table = subject.table
    numbers = [("images", f"{len(table):,}")]
    for column, name in (("lesion_id", "lesions"), ("patient_id", "patients")):
        if table[column].notna().any():
            numbers.append((name, f"{table[column].nunique():,}"))
    numbers.append(("classes", str((table["label"].value_counts() > 0).sum())))
    malignant = int(table["label"].isin(subject.labels.malignant).sum())
    if subject.labels.malignant:
        numbers.append(("malignant", f"{malignant:,}"))
    known_ages = table["age"].dropna()
    if len(known_ages):
        numbers.append(("median age", f"{known_ages.median():.0f}"))
    drawn = any(source.dataset == "demo" for source in subject.checked.sources)
    words = f"Label space {subject.labels.name}. No or unknown: {sections.missing_words(table)}."
    return (
        page.text(words, soft=True)
        + (page.findings([("bad", "These images were drawn by a program.")]) if drawn else "")
        + page.facts(numbers)
        + page.findings(found)
    )


def _table_findings(subject: Subject) -> sections.Findings:
    """What the checks of the table and of the files said."""
    found: sections.Findings = []
    problems = subject.checked.problems
    if problems:
        shown = "; ".join(f"{problem.kind}: {problem.message}" for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        found.append(("bad", f"Problems in the table, which prepare refuses: {len(problems)}. "
                             f"{shown}{more}"))  # fmt: skip
    for reason, count in subject.checked.manifest.dropped.items():
        found.append(("warn", f"Left out, {reason}: {count:,} images."))
    found += [("warn", note) for note in subject.checked.manifest.notes]
    return found


def _facts_line(subject: Subject) -> list[str]:
    counts = subject.table["label"].value_counts()
    by_class = ", ".join(f"{code} {counts.get(code, 0):,}" for code in subject.codes)
    return [f"{_title(subject)}: {len(subject.table):,} images ({by_class})"]
