"""How numbers are written for people: three decimals, intervals in brackets, a dash for nothing."""

import math
from pathlib import PurePath

from kderm.evaluation.report.document import Estimate, Share, Spread, Value

UNDEFINED = "–"


def said(value: Value) -> str:
    """A table's or a tile's value in words."""
    if isinstance(value, Estimate):
        return f"{ranged(value)}{f' {value.mark}' if value.mark else ''}"
    if isinstance(value, Spread):
        known = value.mean is not None and value.sd is not None
        return f"{value.mean:.3f} ± {value.sd:.3f}" if known else number(value.mean)
    if isinstance(value, Share):
        return UNDEFINED if value.value is None else f"{100 * value.value:.1f} %"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) or value is None:
        return number(value)
    return str(value)


def number(value: float | None, digits: int = 3) -> str:
    """So many decimals; a dash for None and NaN."""
    return UNDEFINED if value is None or math.isnan(value) else f"{value:.{digits}f}"


def ranged(entry: Estimate | dict) -> str:
    """A number with its interval, where it has one."""
    entry = entry if isinstance(entry, Estimate) else Estimate.of(entry)
    value, low, high = (number(part, entry.digits) for part in (entry.value, entry.low, entry.high))
    return value if entry.low is None or entry.high is None else f"{value} ({low} to {high})"


def percent(entry: Estimate | dict) -> str:
    """A share with its interval in whole percent, for sentences."""
    entry = entry if isinstance(entry, Estimate) else Estimate.of(entry)
    if entry.value is None:
        return "an unknown share"
    if entry.low is None or entry.high is None:
        return whole_percent(entry.value)
    return f"{whole_percent(entry.value)} ({of_hundred(entry.low)} to {of_hundred(entry.high)})"


def of_hundred(share: float, few: str = "fewer") -> str:
    """A share in 0..1 as a count of a hundred that claims no certainty: 0.996 is no "100"."""
    count = round(100 * share, 6)  # 1 - 0.145 must not fall on another side of a half than 0.145
    if 99.5 <= count < 100:
        return "more than 99"
    return f"{few} than 1" if 0 < count <= 0.5 else f"{count:.0f}"


def whole_percent(share: float) -> str:
    """A share in 0..1 in whole percent that claims no certainty."""
    return f"{of_hundred(share, 'less')} %"


def fact(value: object) -> str:
    """A fact of a run in words."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def rule_name(rule: str) -> str:
    """An operating point's rule in short, in tables and pictures alike: "sensitivity ≥ 90 %"."""
    kind, _, amount = rule.partition("_")
    if kind in ("sensitivity", "specificity") and amount.isdigit():
        return f"{kind} ≥ {amount} %"
    if kind == "cost" and amount.isdigit():
        return f"a miss = {amount} false alarms"
    return {"youden": "balance (Youden)"}.get(rule, rule.replace("_", " "))


def backbone_name(preset: str) -> str:
    """A preset by name; of a file of one's own its name, for the folder says nothing elsewhere."""
    if not preset.startswith("file/"):
        return preset
    return f"{PurePath(preset).name}, a file of the author's"


def initialisation(weights: str) -> str:
    """Where a backbone's first weights came from, by the config's `model.weights`."""
    if weights == "none":
        return "random (from scratch)"
    return "those of the preset" if weights == "preset" else f"from {PurePath(weights).name}"
