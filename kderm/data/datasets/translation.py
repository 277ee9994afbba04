"""From the labels that a data set is spelled in to the codes of the label space that is wanted.

Takes an adapter's rows and gives rows of the same shape. What has one counterpart is translated by
`kderm.label_maps`; what has none or several is decided by the user's `data.map`, or is a problem.
"""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from kderm.counting import counted
from kderm.data.manifest import Problem, RawRows
from kderm.errors import UserError, nearest_names
from kderm.label_maps import LabelMap, label_map
from kderm.labels import LABEL_SPACES, LabelSpace, plain

DROP = "drop"
UNDECIDED = "label without one counterpart"


def check_mapping(mapping: Mapping[str, str], labels: LabelSpace) -> dict[str, str]:
    """`mapping` with its spellings made plain and its targets made codes of `labels` (or drop).

    Raises:
        UserError: a target that the label space does not have, or a label decided twice.
    """
    checked: dict[str, str] = {}
    for spelling, target in mapping.items():
        code = DROP if target == DROP else labels.resolve(target)
        if code is None:
            near = nearest_names(target, [*labels.codes, DROP])
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise UserError(
                f"Expected in data.map a code of {labels.name} ({', '.join(labels.codes)}), or "
                f"{DROP}, for each label. Received: data.map.{spelling}={target}. {hint}".rstrip()
            )
        if checked.setdefault(plain(spelling), code) != code:
            raise UserError(
                f"data.map decides the label {plain(spelling)!r} twice, as "
                f"{checked[plain(spelling)]} and as {code}. Keep one of them."
            )
    return checked


def reading_space(labels: LabelSpace, mapping: Mapping[str, str]) -> LabelSpace:
    """`labels` with the spellings that `mapping` decides among its own.

    Adapters of tables and folders find the labels by what the label space knows. What a spelling
    means is not read from here, so a spelling that is to be dropped may stand for any code.
    """
    known = {text: labels.codes[0] if code == DROP else code for text, code in mapping.items()}
    return replace(labels, synonyms={**labels.synonyms, **known})


def native_space(native: tuple[str, ...], labels: LabelSpace) -> str | None:
    """The label space to read a data set in; None where any will do.

    The wanted one, else the first of its own with a map to it, else the one with most classes.
    """
    if not native or labels.name in native:
        return labels.name if native else None
    mapped = (name for name in native if label_map(name, labels.name) is not None)
    return next(mapped, max(native, key=lambda name: len(LABEL_SPACES[name])))


def translate(
    raw: RawRows, spelled: LabelSpace, labels: LabelSpace, mapping: Mapping[str, str]
) -> RawRows:
    """`raw` with each label as a code of `labels`; spellings that nobody knows stay as they are.

    Args:
        raw: labels in the spellings of `spelled`.
        spelled: the label space that the data set was read in.
        labels: the label space that is wanted; `spelled` itself where the data set has it.
        mapping: what `check_mapping` gave; goes before everything else.
    """
    between = None if spelled.name == labels.name else label_map(spelled.name, labels.name)
    text = raw.table["label"].astype("object").where(raw.table["label"].notna(), "").astype(str)
    counts = text.value_counts(sort=False)
    decided: dict[str, str] = {}
    open_codes: dict[str, list[str]] = {}
    notes = []
    for spelling in counts.index:
        code = spelled.resolve(spelling)
        keys = (plain(spelling), *([] if code is None else [plain(code)]))
        chosen = next((mapping[key] for key in keys if key in mapping), None)
        if chosen == DROP:
            notes.append(
                f"{counted(counts[spelling], 'image')} labelled {spelling!r} left out (data.map)."
            )
        if chosen is not None:
            decided[spelling] = chosen
        elif code is not None and spelled.name != labels.name:
            decided[spelling] = _counterpart(spelling, code, spelled, labels, between) or DROP
            if decided[spelling] == DROP:
                open_codes.setdefault(code, []).append(spelling)
    problems = [
        _undecided(code, spellings, between, raw.table["row"][text.isin(spellings)], labels)
        for code, spellings in open_codes.items()
    ]
    keep = text.map(decided) != DROP
    table = raw.table.assign(label=text.map(lambda item: decided.get(item, item)))
    unused = [key for key in mapping if not _matches(key, counts.index, spelled)]
    if unused:
        notes.append(f"data.map decides labels that are not in the data set: {', '.join(unused)}.")
    return replace(
        raw,
        table=table[keep].reset_index(drop=True),
        problems=[*raw.problems, *problems],
        notes=[*raw.notes, *notes],
    )


def _counterpart(
    spelling: str, code: str, spelled: LabelSpace, labels: LabelSpace, between: LabelMap | None
) -> str | None:
    """The code of `labels` for a label, or None where that is not for sure."""
    if between is not None and code not in between.undecided:
        return between.targets[code][0]
    # A spelling may be finer than its code: `seborrheic keratosis` is a class of PAD-UFES-20, `bkl`
    # is none. Without a map (labels=custom) code and full name may be known there, too.
    names = [spelling] if between else [spelling, code, spelled.names[spelled.index(code)]]
    return next(filter(None, map(labels.resolve, names)), None)


def _undecided(
    code: str,
    spellings: list[str],
    between: LabelMap | None,
    rows: pd.Series,
    labels: LabelSpace,
) -> Problem:
    found = between.targets[code] if between else ()
    what = f"may be {' or '.join(found)}" if found else "has no counterpart"
    reason = between.reasons.get(code) if between else None
    why = f" ({reason})" if reason else ""
    spelled = [text for text in spellings if plain(text) != plain(code)]
    also = f" ({', '.join(map(repr, spelled))})" if spelled else ""
    options = [f"data.map.{code}={target}" for target in (*found, DROP)]
    message = (
        f"{code!r}{also}, the label of {counted(len(rows), 'image')}, {what} in "
        f"{labels.name}{why}: "
        f"set {' or '.join(options)}{'' if found else ', or a class in place of drop'}"
    )
    return Problem(UNDECIDED, int(rows.iloc[0]), message)


def _matches(key: str, spellings: pd.Index, spelled: LabelSpace) -> bool:
    return any(key in (plain(text), plain(spelled.resolve(text) or "")) for text in spellings)
