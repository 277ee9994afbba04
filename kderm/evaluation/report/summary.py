"""The answer first: what a clinician can read in a minute, in sentences about people and images.

Reads the numbers of `measure`; adds none of its own.
"""

from kderm.evaluation.attributes import SKIN_TONE_COLUMNS
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.document import Bullets, Note, Section, Tiles
from kderm.evaluation.report.wording import number, percent, ranged

DISCLAIMER = (
    "**Not a medical device.** This is research software. It is not cleared or certified for "
    "diagnosis anywhere, and nothing in this report makes it fit to decide about a patient."
)
_TILES = {
    "macro_auc": "macro AUC",
    "malignant_auc": "malignant AUC",
    "mel_auc": "melanoma AUC",
    "balanced_accuracy": "balanced accuracy",
}


def answer(predictions: Predictions, found: dict) -> Section:
    """The report's first section."""
    items = plain_sentences(predictions, found)
    return Section(
        "The answer in a minute", [Note("warn", DISCLAIMER), _tiles(found), Bullets(items)]
    )


def plain_sentences(predictions: Predictions, found: dict) -> list[str]:
    """What the ensemble can and cannot do, a sentence or two each."""
    items = [
        _task(predictions, found),
        _ranking(predictions, found),
        _flag(found),
        _naming(predictions, found),
        _sureness(found),
        _unknown(predictions),
    ]
    return [item for item in items if item]


def _tiles(found: dict) -> Tiles:
    tiles = []
    to = "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}"  # an interval stays on one line
    for name, words in _TILES.items():
        entry = found["pooled"].get(name)
        if entry is not None and entry["value"] is not None:
            known = entry["low"] is not None
            between = f" ({number(entry['low'])}{to}{number(entry['high'])})" if known else ""
            tiles.append((entry["value"], f"{words}{between}"))
    return Tiles(tiles)


def _task(predictions: Predictions, found: dict) -> str:
    held_out = predictions.has_folds and not found["groups_in_several_folds"]
    how = (
        "each answered by a network that had never seen the image, nor another one of that lesion"
        if held_out
        else "answered by an ensemble"
    )
    return (
        f"**The task.** For one picture of a lesion the ensemble gives a probability to each of "
        f"{len(predictions.labels)} diagnoses. Here are its answers to {found['n_images']:,} "
        f"pictures of {found['n_groups']:,} lesions or patients, {how}."
    )


def _ranking(predictions: Predictions, found: dict) -> str:
    for name, words in (
        ("mel_auc", "a melanoma and a picture of something else"),
        ("malignant_auc", "a malignant and a benign lesion"),
        ("macro_auc", "a diagnosis and a picture of something else"),
    ):
        entry = found["pooled"].get(name)
        if entry is not None and entry["value"] is not None:
            return (
                f"**Ranking.** Shown a picture of {words}, it gives the higher probability to the "
                f"right one in {100 * entry['value']:.0f} of 100 such pairs (AUC {ranged(entry)})."
            )
    return ""


def _flag(found: dict) -> str:
    points = found["operating_points"]["points"]
    chosen = (p for p in points if (p["target"], p["rule"]) == ("malignant", "youden"))
    point = next(chosen, None)
    if point is None:
        return ""
    # On the images that a threshold was chosen on, only the other folds' thresholds are honest.
    honest = point.get("cross_fitted") or point
    shares = [honest[name]["value"] for name in ("sensitivity", "specificity")]
    if None in shares:
        return ""
    caught, spared = (round(100 * share) for share in shares)
    return (
        f"**Malignant or not.** At the balanced threshold it flags {caught} of 100 malignant "
        f"pictures and misses {100 - caught}; of 100 benign ones it flags {100 - spared} for "
        "nothing. Other thresholds, with other prices, are under operating points."
    )


def _naming(predictions: Predictions, found: dict) -> str:
    entry = found["pooled"]["accuracy"]
    rates = {
        code: own["sensitivity"]
        for code, own in found["per_class"].items()
        if own["sensitivity"]["value"] is not None
    }
    if entry["value"] is None or len(rates) < 2:
        return ""
    worst = min(rates, key=lambda code: rates[code]["value"])
    return (
        f"**Naming the diagnosis.** Its first choice is right for {percent(entry)} of the "
        f"pictures, and for {percent(found['pooled']['balanced_accuracy'])} if every diagnosis "
        f"counts alike. It does worst on {_name(predictions, worst)}, of which it recognises "
        f"{percent(rates[worst])}."
    )


def _name(predictions: Predictions, code: str) -> str:
    name = predictions.labels.names[predictions.labels.index(code)]
    return code if name == code else f"{name.lower()} ({code})"


def _sureness(found: dict) -> str:
    numbers = found["calibration"]
    sure, right = 100 * numbers["mean_confidence"], 100 * numbers["share_right"]
    if abs(sure - right) < 1:
        judged = "on average neither too sure nor too modest"
    else:
        judged = "too sure of itself" if sure > right else "more modest than it need be"
    words = (
        f"**How sure it is.** Its first choice gets a probability of {sure:.0f} % on average and "
        f"is right in {right:.0f} %: {judged}."
    )
    for target, name in (("mel", "melanoma"), ("malignant", "malignancy")):
        numbers = found["calibration_report"]["targets"].get(target)
        if numbers is None or numbers["gap"]["low"] is None:
            continue
        gap = numbers["gap"]
        if gap["low"] <= 0 <= gap["high"]:
            continue
        direction = "too high" if gap["value"] > 0 else "too low"
        given, are = (100 * numbers[key]["value"] for key in ("mean_confidence", "frequency"))
        words += (
            f" The probability of {name} is {direction}: {given:.0f} % on average, where "
            f"{are:.0f} % are."
        )
    return words


def _unknown(predictions: Predictions) -> str:
    table = predictions.table
    unknown = ["other cameras, clinics and populations than those of these pictures"]
    if not any(name in table and table[name].notna().any() for name in SKIN_TONE_COLUMNS):
        unknown.append("other skin tones: skin tone is not recorded in this table")
    return (
        "**What it says nothing about.** Diagnoses beyond "
        f"{', '.join(predictions.labels.codes)}; {'; '.join(unknown)}; and what a doctor would "
        "decide with the patient in the room."
    )
