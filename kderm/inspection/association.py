"""What goes with the diagnosis: tests of association, missing values, columns that tell the label.

Plain tables in, plain tables out. One image a lesion is tested, since the images of one lesion are
not independent; opens no image.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from kderm.data.datasets.leaking import leak_of

FACTORS = ("age", "sex", "site")
# From which value an effect is called so. Cramer's V by Cohen 1988 for two groups; epsilon squared
# by Rea and Parker's bounds for its root.
_WORDS = ((0.5, "strong"), (0.3, "moderate"), (0.1, "weak"), (0.0, "negligible"))
_BINS = 20
# Balanced accuracy beyond chance, of what is left to reach: from where a column is pointed out.
TELLING, DETERMINING = 0.3, 0.8


def one_a_lesion(table: pd.DataFrame) -> pd.DataFrame:
    """The first image of each lesion; images without a lesion id all stay."""
    repeated = table["lesion_id"].notna() & table.duplicated("lesion_id")
    return table[~repeated]


def known(column: pd.Series) -> pd.Series:
    """Whether each value is known: bool, on the column's index."""
    return column.notna() & (column.astype(object) != "unknown")


def associations(table: pd.DataFrame, factors: Sequence[str] = FACTORS) -> pd.DataFrame:
    """Tests of each factor, and of its being missing, against the label.

    Args:
        table: the manifest's table.
        factors: columns; floats are ranked (Kruskal-Wallis), the rest counted (chi-square).

    Returns:
        Columns factor, test, n, statistic, freedom, p, effect, measure, size; a row a test that
        can be made.
    """
    lesions = one_a_lesion(table)
    rows = []
    for factor in factors:
        there = known(lesions[factor])
        part = lesions[there]
        if part[factor].dtype.kind == "f":
            rows.append(_kruskal(factor, part[factor].to_numpy(), part["label"].to_numpy()))
        else:
            rows.append(_chi_square(factor, part[factor], part["label"]))
        missing = pd.Series(np.where(there, "known", "missing"), lesions.index)
        rows.append(_chi_square(f"{factor} missing", missing, lesions["label"]))
    columns = ["factor", "test", "n", "statistic", "freedom", "p", "effect", "measure", "size"]
    return pd.DataFrame([row for row in rows if row], columns=columns)


def _chi_square(factor: str, values: pd.Series, labels: pd.Series) -> tuple | None:
    """Chi-square with Cramer's V, corrected for bias (Bergsma 2013)."""
    counts = pd.crosstab(values, labels).to_numpy()
    if min(counts.shape, default=0) < 2:
        return None
    result = stats.chi2_contingency(counts, correction=False)
    n, (r, c) = counts.sum(), counts.shape
    phi = max(0.0, result.statistic / n - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    effect = float(np.sqrt(phi / max(min(rows, columns) - 1, 1e-12)))
    return (
        *(factor, "chi-square", int(n), float(result.statistic), int(result.dof)),
        *(float(result.pvalue), effect, "Cramer's V", _size(effect)),
    )


def _kruskal(factor: str, values: np.ndarray, labels: np.ndarray) -> tuple | None:
    """Kruskal-Wallis with epsilon squared."""
    groups = [values[labels == code] for code in np.unique(labels)]
    if len(groups) < 2 or np.ptp(values) == 0:
        return None
    statistic, p = stats.kruskal(*groups)
    effect = float(statistic) / (len(values) - 1)
    return (
        *(factor, "Kruskal-Wallis", len(values), float(statistic), len(groups) - 1),
        *(float(p), effect, "epsilon squared", _size(np.sqrt(effect))),
    )


def _size(effect: float) -> str:
    return next(word for bound, word in _WORDS if effect >= bound)


def missing_values(table: pd.DataFrame, codes: Sequence[str]) -> pd.DataFrame:
    """Share of images without a value: a row a column of the manifest, a column a class."""
    rows = []
    for column in (*FACTORS, "lesion_id", "patient_id"):
        absent = ~known(table[column])
        by_class = absent.groupby(table["label"]).mean()
        shares = {code: by_class.get(code, np.nan) for code in codes}
        rows.append({"column": column, "all": absent.mean(), **shares})
    return pd.DataFrame(rows)


def telling_columns(source: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """How well each column of the raw table alone tells the class.

    A row's class is drawn from those of the other rows with the same value (numbers: the same of 20
    bins), every class counting the same. Without other rows it is drawn blindly, so that an id
    tells nothing.

    Args:
        source: the raw table, text; a row an image.
        labels: the label codes of those rows (n,).

    Returns:
        Columns column, values (distinct), missing (share), balanced_accuracy, skill (0: chance, 1:
        tells every class), leaks (the reason, or "") and verdict; best first.
    """
    codes, truth = np.unique(labels, return_inverse=True)
    rows = []
    for column in source:
        text = source[column].fillna("").astype(str).str.strip()
        reason = leak_of(column) or ""
        recall = _guessed(_levels(text), truth, len(codes))
        chance = 1 / len(codes)
        skill = max(0.0, (recall - chance) / (1 - chance)) if len(codes) > 1 else 0.0
        rows.append(
            {
                "column": column,
                "values": text.nunique(),
                "missing": float((text == "").mean()),
                "balanced_accuracy": recall,
                "skill": skill,
                "leaks": reason,
                "verdict": _verdict(skill, reason),
            }
        )
    table = pd.DataFrame(rows)
    return table.sort_values("skill", ascending=False, kind="stable", ignore_index=True)


def _levels(text: pd.Series) -> np.ndarray:
    """int (n,): which value, or which of 20 equally filled bins of a number, each row has."""
    numbers = pd.to_numeric(text.where(text != ""), errors="coerce")
    if (numbers.notna() | (text == "")).all() and numbers.nunique() > _BINS:
        bins = pd.qcut(numbers, _BINS, labels=False, duplicates="drop")
        return bins.fillna(-1).to_numpy().astype(np.int64)
    return pd.factorize(text)[0]


def _guessed(levels: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Balanced accuracy of guessing each row from the others of its level."""
    votes = np.zeros((levels.max() + 2, k))  # levels begin at -1
    weight = 1 / np.bincount(truth, minlength=k)
    np.add.at(votes, (levels + 1, truth), weight[truth])
    others = votes[levels + 1]
    rows = np.arange(len(truth))
    others[rows, truth] -= weight[truth]
    # Drawn in proportion, not the commonest: leaving a row out makes its own class the rarer one.
    total = others.sum(axis=1)
    alone = total < 0.5 * weight.min()
    right = np.where(alone, 1 / k, others[rows, truth] / np.where(alone, 1, total))
    return float(np.mean([right[truth == j].mean() for j in range(k)]))


def _verdict(skill: float, reason: str) -> str:
    if reason:
        return "leaks"
    if skill >= DETERMINING:
        return "nearly determines the class"
    return "tells much" if skill >= TELLING else ""
