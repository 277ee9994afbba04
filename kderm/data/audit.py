"""The audit: what is in one data set or several joined ones, and which images are there twice.

Reads what `kderm.data.checked` found and counts it; decides nothing. Tables for other programs are
written beside the text for people.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd

from kderm import console
from kderm.atomic import write_csv, write_text
from kderm.config.schema import Config
from kderm.counting import counted
from kderm.data.checked import BY, check_data
from kderm.data.folds import group_ids, read_duplicates
from kderm.data.manifest import Problem
from kderm.data.overlap import SAME_PICTURE
from kderm.labels import label_space

PAIRS, SOURCES, CONFLICTS, REMOVED = "pairs.csv", "sources.csv", "conflicts.csv", "removed.csv"
TEXT = "audit.txt"
_SHOWN = 5


@dataclass(frozen=True)
class Audit:
    """What was found; `str()` of it is for people.

    Attributes:
        sources: a row a source: source, images, lesions, patients, then a column a class. Counts
            are of images with a file and a label, before any are removed.
        pairs: a row a pair of images that are the same: image_id_1, image_id_2, by, similarity,
            source_1, source_2, label_1, label_2, and joined (a lesion or patient id says so too).
        conflicts: the pairs whose labels differ.
        removed: images left out because an earlier source has them.
        groups: number of groups and images in the largest, by lesion and patient ids alone.
        groups_with_pairs: the same with the pairs that are used, and listed duplicates, too.
        unreadable: image id to reason.
        problems: what else is wrong.
        listed: pairs in data.duplicates, and how many of them are among `pairs`; None without.
        action: data.overlap; "report" for a single data set, whose pairs are only told.
        notes: what the adapters say.
        dropped: reason to number of images left out.
    """

    sources: pd.DataFrame
    pairs: pd.DataFrame
    conflicts: pd.DataFrame
    removed: pd.DataFrame
    groups: tuple[int, int]
    groups_with_pairs: tuple[int, int]
    unreadable: dict[str, str]
    problems: tuple[Problem, ...]
    listed: tuple[int, int] | None
    action: str
    notes: tuple[str, ...]
    dropped: dict[str, int]

    def __str__(self) -> str:
        rows = self.sources.to_numpy().tolist()
        parts = [console.table(rows, list(self.sources.columns))]
        parts += ["\n".join(self._overlap_lines())]
        parts += ["\n".join(f"note: {note}" for note in self.notes)] if self.notes else []
        wrong = self._wrong_lines()
        parts += ["\n".join(wrong)] if wrong else []
        return "\n\n".join(parts)

    def _overlap_lines(self) -> list[str]:
        if not len(self.pairs):
            lines = ["The same image twice: none found, by id, file or picture."]
        else:
            across = self.pairs["source_1"] != self.pairs["source_2"]
            kinds = [
                [words, int((~across & same).sum()), int((across & same).sum())]
                for by, words in BY.items()
                if (same := self.pairs["by"] == by).any()
            ]
            header = ["the same image twice, pairs", "within a source", "across sources"]
            lines = [console.table(kinds, header)]
            apart = int((~self.pairs["joined"]).sum())
            lines.append(f"{apart} of the pairs are joined by no lesion or patient id.")
            lines += self._doubtful_lines()
        lines.append(
            f"Labels that differ within a pair: {len(self.conflicts)}"
            + _examples(
                f"{row.image_id_1} ({row.label_1}) and {row.image_id_2} ({row.label_2})"
                for row in self.conflicts.itertuples()
            )
        )
        if self.listed is not None:
            total, found = self.listed
            lines.append(f"data.duplicates lists {counted(total, 'pair')}; found here: {found}.")
        lines.append(self._action_line())
        (before, largest), (after, largest_after) = self.groups, self.groups_with_pairs
        lines.append(
            f"Groups that never cross folds: {after} (largest: {largest_after} images); by lesion "
            f"and patient ids alone {before} (largest: {largest})."
        )
        return lines

    def _doubtful_lines(self) -> list[str]:
        """Equal ids over pictures that do not look alike: one of them may be another image."""
        doubtful = self.pairs[
            (self.pairs["by"] == "id") & (self.pairs["similarity"] < SAME_PICTURE)
        ]
        if not len(doubtful):
            return []
        shown = (f"{row.image_id_1} and {row.image_id_2}" for row in doubtful.itertuples())
        return [f"Pairs by id whose pictures differ: {len(doubtful)}{_examples(shown)}"]

    def _action_line(self) -> str:
        if self.action == "report":
            return "Nothing is done about pairs in a single data set."
        if self.action == "ignore":
            return "data.overlap=ignore: nothing is done about them, in training either."
        if self.action == "remove":
            return (
                f"data.overlap=remove: {counted(len(self.removed), 'image')} of later sources "
                "left out; pairs within a source share a fold."
            )
        return "data.overlap=group: the images of a pair share a fold."

    def _wrong_lines(self) -> list[str]:
        lines = [
            f"{counted(count, 'image')} left out: {why}" for why, count in self.dropped.items()
        ]
        kinds = Counter(problem.kind for problem in self.problems)
        lines += [f"PROBLEM, which prepare refuses: {kind} ({n})" for kind, n in kinds.items()]
        return lines


def audit(config: Config, directory: Path) -> str:
    """Examine the data of a config, write the tables into `directory`, and tell what was found."""
    found = examine(config)
    write_audit(found, directory)
    lines = [f"{found}\n", f"Tables: {directory}/"]
    if found.action == "report" and not found.pairs["joined"].all():
        lines.append(f"To keep every pair in one fold: data.duplicates={directory / PAIRS}")
    return "\n".join(lines)


def examine(config: Config) -> Audit:
    """Look at all images and rows of a config's data, whatever is wrong with them.

    Raises:
        UserError: a source that cannot be read at all.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    checked = check_data(config, labels, compare=True)
    table = checked.everything.table
    ids = table["image_id"]
    listed = read_duplicates(config.data.duplicates, ids) if config.data.duplicates else []
    pairs = described_pairs(table, checked.pairs)
    kept = checked.manifest.table
    alone = len(checked.sources) == 1
    return Audit(
        sources=source_table(table, labels.codes),
        pairs=pairs,
        conflicts=checked.conflicts,
        removed=checked.removed,
        groups=_groups(kept, []),
        groups_with_pairs=_groups(kept, [*listed, *checked.linked]),
        unreadable=dict(checked.store.unreadable),
        problems=tuple(checked.problems),
        listed=(len(listed), _found(listed, pairs)) if config.data.duplicates else None,
        action="report" if alone else config.data.overlap,
        notes=checked.manifest.notes,
        dropped=checked.manifest.dropped,
    )


def write_audit(found: Audit, directory: Path) -> None:
    """Write the text and the tables; a table of nothing has its header only."""
    write_csv(directory / SOURCES, found.sources)
    write_csv(directory / PAIRS, found.pairs)
    write_csv(directory / CONFLICTS, found.conflicts)
    write_csv(directory / REMOVED, found.removed)
    write_text(directory / TEXT, f"{found}\n")


def described_pairs(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with what the manifest knows of both images.

    Args:
        table: the manifest's table.
        pairs: from `overlap.find`.

    Returns:
        The columns of `pairs`, source_1, source_2, label_1, label_2 (missing for images that the
        manifest does not have), and joined: a lesion or patient id puts both in one group.
    """
    facts = table[["image_id", "source", "label"]].assign(group=group_ids(table).to_numpy())
    facts = facts.drop_duplicates("image_id").set_index("image_id")
    found = pairs.copy()
    for fact in ("source", "label", "group"):
        for side in ("1", "2"):
            found[f"{fact}_{side}"] = pairs[f"image_id_{side}"].map(facts[fact])
    found["joined"] = found["group_1"] == found["group_2"]
    return found.drop(columns=["group_1", "group_2"])


def source_table(table: pd.DataFrame, codes: tuple[str, ...]) -> pd.DataFrame:
    """A row a source and one for all: images, lesions, patients (counted where known), classes."""
    parts = [(str(name), part) for name, part in table.groupby("source", sort=False)]
    rows = []
    for name, part in [*parts, *([("all", table)] if len(parts) > 1 else [])]:
        classes = part["label"].value_counts()
        row: dict[str, object] = {"source": name, "images": len(part)}
        row |= {"lesions": part["lesion_id"].nunique(), "patients": part["patient_id"].nunique()}
        rows.append(row | {code: int(classes.get(code, 0)) for code in codes})
    return pd.DataFrame(rows)


def _groups(table: pd.DataFrame, links: list[tuple[str, str]]) -> tuple[int, int]:
    """Number of groups, and images in the largest."""
    sizes = group_ids(table, links).value_counts()
    return len(sizes), int(sizes.max()) if len(sizes) else 0


def _found(listed: list[tuple[str, str]], pairs: pd.DataFrame) -> int:
    """How many of the listed pairs are among those found."""
    found = set(map(frozenset, zip(pairs["image_id_1"], pairs["image_id_2"], strict=True)))
    return sum(frozenset(pair) in found for pair in listed)


def _examples(shown: Iterable[str]) -> str:
    """The end of a sentence that names the first few."""
    first = list(islice(shown, _SHOWN))
    return f", for example {'; '.join(first)}." if first else "."
