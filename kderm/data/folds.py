"""Folds: which images belong together, and which fold each group is held out in.

Reads the manifest's table, writes and checks the frozen tables of `cv_folds/` and `runs/<run>/`. A
group (everything joined by lesion, patient or a listed duplicate) never crosses folds. The way
groups are dealt to folds lives in `kderm.data.grouping`.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kderm import __version__
from kderm.atomic import write_csv
from kderm.counting import counted
from kderm.data.datasets.csv_file import open_csv
from kderm.data.datasets.image_index import stem
from kderm.data.grouping import deal_groups
from kderm.errors import UserError
from kderm.labels import LabelSpace

FORMAT = "kderm folds 1"
_COLUMNS = ["image_id", "group_id", "label", "fold"]
_EXAMPLES = 10


@dataclass(frozen=True)
class FoldTable:
    """One row an image, in id order.

    Attributes:
        table: columns image_id, group_id, label (code), fold (int, 0..k-1).
        k: number of folds.
        seed: seed of the split.
        labels: the label space.
        absent: rows of the file it was read from whose images the manifest does not have.
    """

    table: pd.DataFrame
    k: int
    seed: int
    labels: LabelSpace
    absent: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over all rows in id order, hex."""
        return _digest(self.table)


def group_ids(table: pd.DataFrame, duplicates: Sequence[tuple[str, str]] = ()) -> pd.Series:
    """The group of each image: connected by lesion, by patient or by a listed duplicate.

    Args:
        table: columns image_id, lesion_id, patient_id; a missing or empty id connects nothing.
        duplicates: pairs of image ids; ids that the table does not have still connect partners.

    Returns:
        Series of str on the table's index. A group is named after its smallest lesion id, else its
        smallest patient id, else its smallest image id.
    """
    images = table["image_id"].astype(str).to_numpy()
    n = len(images)
    starts, ends = [], []
    nodes = n
    for column in ("lesion_id", "patient_id"):
        codes, names = pd.factorize(_or_missing(table[column]))
        known = codes >= 0
        starts.append(np.flatnonzero(known))
        ends.append(codes[known] + nodes)
        nodes += len(names)
    if duplicates:
        pairs = np.asarray([tuple(pair) for pair in duplicates], dtype=object)
        codes, _ = pd.factorize(np.concatenate([images.astype(object), pairs.ravel()]))
        # Every id of the list gets a node of its own; rows of the table hang on theirs.
        starts += [np.arange(n), codes[n::2] + nodes]
        ends += [codes[:n] + nodes, codes[n + 1 :: 2] + nodes]
        nodes += int(codes.max()) + 1
    from scipy.sparse import coo_matrix  # prediction reads this module too, and groups nothing
    from scipy.sparse.csgraph import connected_components

    start, end = np.concatenate(starts), np.concatenate(ends)
    graph = coo_matrix((np.ones(len(start), dtype=np.int8), (start, end)), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    return pd.Series(_group_names(table, component[:n]), index=table.index, name="group_id")


def make_folds(
    table: pd.DataFrame,
    labels: LabelSpace,
    k: int,
    seed: int,
    duplicates: Sequence[tuple[str, str]] = (),
) -> FoldTable:
    """Split into `k` folds: stratified by class, balanced by image count, groups whole.

    Every class is in every fold wherever at least `k` groups have it. The result depends on the
    rows, on `k` and on `seed`, not on the order of the rows.

    Args:
        table: manifest columns image_id, lesion_id, patient_id, label.
        labels: the label space.
        k: number of folds, at least 2.
        seed: any int >= 0.
        duplicates: pairs of image ids that must share a fold.

    Raises:
        UserError: fewer groups than folds.
    """
    folds = table[["image_id", "label"]].copy()
    folds.insert(1, "group_id", group_ids(table, duplicates))
    folds = folds.sort_values("image_id", ignore_index=True)
    codes, names = pd.factorize(folds["group_id"], sort=True)
    if len(names) < k:
        raise UserError(
            f"Expected at least {k} groups (lesions or patients) for {k} folds. Received: "
            f"{len(names)} groups of {len(folds)} images. Choose a smaller folds.k, or add data."
        )
    classes = folds["label"].map(labels.index).to_numpy()
    counts = np.zeros((len(names), len(labels)), dtype=np.int64)
    np.add.at(counts, (codes, classes), 1)
    # A hash orders groups of equal size: the same whatever the row order and the numpy version.
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names]
    folds["fold"] = deal_groups(counts, keys, k)[codes]
    return FoldTable(folds, k, seed, labels)


def read_duplicates(path: Path, known: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Pairs of image ids from the first two columns of a CSV with a header line.

    Args:
        path: the CSV; images may be named by their files, too.
        known: the ids of the data set. One may hold a folder (`mel/1`), so it is taken as it is.

    Raises:
        UserError: no such file, one column, no header, or an incomplete pair.
    """
    source = open_csv(path)
    if len(source.columns) < 2 or any(sum(map(str.isdigit, c)) > 2 for c in source.columns[:2]):
        raise UserError(
            f"Expected a CSV with a header line and two columns of image ids at {path}, for "
            f"example image_id_1,image_id_2. Received the header: {', '.join(source.columns)}."
        )
    rows, problems = source.read(source.columns[:2])
    ids = frozenset(known)
    first, second = (
        rows.iloc[:, column].map(lambda text: text if text in ids else stem(text))
        for column in (0, 1)
    )
    bad = [problem.row for problem in problems] + rows["row"][
        (first == "") | (second == "")
    ].tolist()
    if bad:
        raise UserError(
            f"Expected two image ids in every row of {path}. Received incomplete rows: "
            f"{_some(sorted(bad))}."
        )
    return list(zip(first, second, strict=True))


def class_table(folds: FoldTable) -> pd.DataFrame:
    """Images by class (rows, label-space order, then `all`) and fold (columns, then `total`)."""
    counts = pd.crosstab(folds.table["label"], folds.table["fold"])
    counts = counts.reindex(index=list(folds.labels.codes), columns=range(folds.k), fill_value=0)
    counts.columns = [f"fold {fold}" for fold in range(folds.k)]
    counts.loc["all"] = counts.sum()
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(index="class", columns=None)


def leaked_images(folds: FoldTable, seed: int = 0) -> int:
    """How many images a plain image-level split would put apart from an image of the same group.

    The split it simulates is the usual one: stratified by class, shuffled, groups ignored.
    """
    table = folds.table
    rng = np.random.default_rng(seed)
    fold = np.empty(len(table), dtype=np.int64)
    for rows in table.groupby("label").indices.values():
        fold[rng.permutation(rows)] = np.arange(len(rows)) % folds.k
    split = pd.Series(fold).groupby(table["group_id"].to_numpy())
    return int((split.transform("min") != split.transform("max")).sum())


def write_folds(path: Path, folds: FoldTable, made_by: str) -> None:
    """Write the table as CSV below a JSON header in `# ` lines.

    Args:
        path: the CSV.
        folds: the table.
        made_by: who or what made it, with the command.
    """
    header = {
        "format": FORMAT,
        "k": folds.k,
        "seed": folds.seed,
        "classes": list(folds.labels.codes),
        "images": len(folds.table),
        "groups": int(folds.table["group_id"].nunique()),
        "digest": folds.digest,
        "kderm": __version__,
        "made_by": made_by,
    }
    fields = [
        f"#   {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in header.items()
    ]
    write_csv(path, folds.table[_COLUMNS], header="# {\n" + ",\n".join(fields) + "\n# }\n")


def read_folds(
    path: Path,
    manifest_table: pd.DataFrame,
    labels: LabelSpace,
    duplicates: Sequence[tuple[str, str]] = (),
) -> FoldTable:
    """Read what `write_folds` wrote and check it against the manifest.

    Rows whose images the manifest does not have (missing files, dropped there) are left out and
    counted in `absent`.

    Raises:
        UserError: not a fold table, changed since it was written, other classes, images without a
            fold, other labels, or a group (the file's, or found anew in the manifest) in two folds.
    """
    header, table = _parse(Path(path))
    remake = (
        f"If the data set has changed, delete {path} or name another table with folds.file=PATH, "
        "and the command prepare makes new folds; otherwise use the data set it was made for."
    )
    if header["classes"] != list(labels.codes):
        raise UserError(
            f"Expected folds for the classes {', '.join(labels.codes)}. Received: {path} is for "
            f"{', '.join(header['classes'])}. {remake}"
        )
    _refuse(
        path,
        table.loc[table["image_id"].duplicated(), "image_id"],
        "each image once, received image ids more than once",
        "Restore the file, or make the folds anew.",
    )
    if _digest(table) != header["digest"]:
        raise UserError(
            f"{path} was changed after it was written: its rows do not give the digest "
            f"{header['digest'][:12]}... of its header. Restore the file, or make the folds anew."
        )
    _refuse_crossing(path, table, table["group_id"], remake)
    known = table.set_index("image_id")
    ids = manifest_table["image_id"]
    _refuse(path, ids[~ids.isin(known.index)], "a fold for every image, received none for", remake)
    found = known.loc[ids]
    differ = ids[found["label"].to_numpy() != manifest_table["label"].to_numpy()]
    _refuse(path, differ, "the labels of the manifest, received other labels for", remake)
    mine = found.reset_index()
    groups = group_ids(manifest_table, duplicates)
    _refuse_crossing(path, mine, pd.Series(groups.to_numpy()), remake)
    mine = mine.sort_values("image_id", ignore_index=True)[_COLUMNS]
    return FoldTable(mine, header["k"], header["seed"], labels, len(table) - len(mine))


def _parse(path: Path) -> tuple[dict, pd.DataFrame]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Expected a fold table at {path}. Received: {error}.") from None
    length = next((i for i, line in enumerate(lines) if not line.startswith("# ")), len(lines))
    try:
        header = json.loads("".join(line[2:] for line in lines[:length]))
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']!r}")
        table = pd.read_csv(io.StringIO("".join(lines[length:])), dtype=str, keep_default_na=False)
        table = table[_COLUMNS].assign(fold=table["fold"].astype(np.int64))
        header = {
            "k": int(header["k"]),
            "seed": int(header["seed"]),
            "classes": list(header["classes"]),
            "digest": str(header["digest"]),
        }
        if not table["fold"].between(0, header["k"] - 1).all():
            raise ValueError(f"a fold outside 0..{header['k'] - 1}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"Expected a fold table at {path}: '# ' lines with a JSON header of the format "
            f"{FORMAT!r}, then the columns {', '.join(_COLUMNS)}. Received: {error}. "
            "Make the folds anew, or restore the file."
        ) from None
    return header, table


def _refuse_crossing(path: Path, table: pd.DataFrame, groups: pd.Series, do: str) -> None:
    split = table["fold"].groupby(groups)
    crossing = split.transform("min") != split.transform("max")
    if not crossing.any():
        return
    shown = [
        f"  group {group}: " + ", ".join(f"{i} in fold {f}" for i, f in zip(*found, strict=True))
        for group, found in (
            (name, (part["image_id"][:6], part["fold"][:6]))
            for name, part in table[crossing].groupby(groups[crossing])
        )
    ]
    more = f"\n  and {len(shown) - _EXAMPLES} more" if len(shown) > _EXAMPLES else ""
    raise UserError(
        f"Expected every group (lesion, patient, listed duplicate) in one fold. Received: "
        f"{counted(len(shown), 'group')} of {path} in two or more:\n"
        + "\n".join(shown[:_EXAMPLES])
        + f"{more}\n{do}"
    )


def _refuse(path: Path, ids: pd.Series, expected: str, do: str) -> None:
    if len(ids):
        raise UserError(
            f"Fold table {path}: expected {expected} {len(ids)}: {_some(ids.tolist())}. {do}"
        )


def _some(items: Sequence) -> str:
    more = f" and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
    return ", ".join(str(item) for item in items[:_EXAMPLES]) + more


def _digest(table: pd.DataFrame) -> str:
    ordered = table.sort_values("image_id")
    columns = [ordered[column].astype(str) for column in _COLUMNS]
    lines = "\n".join("\t".join(row) for row in zip(*columns, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _or_missing(column: pd.Series) -> pd.Series:
    text = column.astype(object)
    return text.where(text.notna() & (text != ""))


def _group_names(table: pd.DataFrame, component: np.ndarray) -> np.ndarray:
    """A name for each row's component, the same whatever the row order."""
    components = pd.Series(component)
    names = pd.Series(None, index=components.index, dtype=object)
    for column in ("lesion_id", "patient_id", "image_id"):
        names = names.where(names.notna(), components.map(_smallest(table[column], component)))
    # A lesion id of one group may be an image id of another; the smallest image id tells which.
    owners = components.groupby(names.to_numpy()).nunique()
    shared = names.isin(owners.index[owners > 1])
    if shared.any():
        first = components.map(_smallest(table["image_id"], component))
        names = names.where(~shared, names + " (" + first + ")")
    return names.to_numpy()


def _smallest(ids: pd.Series, component: np.ndarray) -> pd.Series:
    """The smallest id of each component that has one, by component."""
    # Sorting once is many times faster than the minimum of strings group by group.
    pairs = pd.DataFrame({"id": _or_missing(ids).to_numpy(), "component": component}).dropna()
    return pairs.sort_values("id").drop_duplicates("component").set_index("component")["id"]
