"""The answer first: what a clinician can read in a minute, in sentences about people and images.

Reads the numbers of `measure`; adds none of its own.
"""

from kderm.evaluation.attributes import SKIN_TONE_COLUMNS
from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.document import Bullets, Estimate, Note, Section, Tiles
from kderm.evaluation.report.provenance import images_without_ids
from kderm.evaluation.report.subgroup_sections import RULES, gaps_sentence, largest_gap, weakest
from kderm.evaluation.report.wording import (
    number,
    of_hundred,
    percent,
    ranged,
    rule_name,
    whole_percent,
)

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
        _melanoma(found),
        _malignant(found),
        _ranking(predictions, found),
        _naming(predictions, found),
        _sureness(found),
        _weakest(found),
        _optimism(found),
        _unknown(predictions),
    ]
    return [item for item in items if item]


def _tiles(found: dict) -> Tiles:
    entries = ((found["pooled"].get(name), words) for name, words in _TILES.items())
    return Tiles(
        [(Estimate.of(entry), words) for entry, words in entries if entry and entry["value"]]
    )


def _task(predictions: Predictions, found: dict) -> str:
    alone = images_without_ids(predictions)
    how = "answered by an ensemble"
    if predictions.has_folds and not found["groups_in_several_folds"]:
        how = "each answered by a network that had never seen the image"
        if alone < found["n_images"]:
            how += ", nor another one of that lesion"
            how += " (as far as lesion and patient ids tell)" if alone else ""
    lesions = found["lesions"]["n_lesions"] if found["lesions"]["reason"] is None else 0
    whose = (
        f" of {lesions:,} lesions" if lesions else f" of {found['n_groups']:,} lesions or patients"
    )
    if alone == found["n_images"]:
        whose = ""  # which of them show one lesion nobody knows
    return (
        f"**The task.** For one picture of a lesion the ensemble gives a probability to each of "
        f"{len(predictions.labels)} diagnoses. Here are its answers to {found['n_images']:,} "
        f"pictures{whose}, {how}."
    )


def _ranking(predictions: Predictions, found: dict) -> str:
    for name, words in (
        ("mel_auc", "a melanoma and a picture of something else"),
        ("malignant_auc", "a malignant and a benign lesion"),
        ("macro_auc", "a diagnosis and a picture of something else"),
    ):
        entry = found["pooled"].get(name)
        if entry is not None and entry["value"] is not None:
            right = of_hundred(entry["value"])
            return (
                f"**Ranking.** Shown a picture of {words}, it gives the higher probability to the "
                f"right one in {right} of 100 such pairs (AUC {ranged(entry)})."
            )
    return ""


def _melanoma(found: dict) -> str:
    point = _balanced(found, "mel")
    if point is None:
        return ""
    told = f"**Melanoma.** {_counts(found, point, 'melanomas', 'pictures of something else')}"
    needed = _honest(point)["number_needed_to_biopsy"]["value"]
    if needed is None:
        return told
    share = point["n_positive"] / (point["n_positive"] + point["n_negative"])
    return (
        f"{told} The number needed to biopsy is {number(needed, 1)} (flagged pictures for each "
        f"melanoma among them), where {whole_percent(share)} of the pictures are melanomas; in a "
        "practice, where fewer are, it would be higher."
    )


def _malignant(found: dict) -> str:
    point = _balanced(found, "malignant")
    if point is None:
        return ""
    return (
        f"**Malignant or not.** {_counts(found, point, 'malignant pictures', 'benign ones')} Other "
        "trade-offs of sensitivity and specificity are in the report under Operating points."
    )


def _balanced(found: dict, target: str) -> dict | None:
    """The target's balanced threshold with what it gives; None where that is not known."""
    points = found["operating_points"]["points"]
    chosen = (p for p in points if (p["target"], p["rule"]) == (target, "youden"))
    point = next(chosen, None)
    if point is None or None in (point["sensitivity"]["value"], point["specificity"]["value"]):
        return None
    return point


def _counts(found: dict, point: dict, events: str, others: str) -> str:
    """A threshold's sensitivity and specificity as counts of a hundred."""
    honest = _honest(point)
    if not found["operating_points"]["chosen_here"]:
        origin = "frozen on out-of-fold predictions"
    else:
        origin = "set on the other folds" if honest is not point else "chosen on these pictures"
    sensitivity = honest["sensitivity"]
    caught, missed = of_hundred(sensitivity["value"]), of_hundred(1 - sensitivity["value"])
    flagged = of_hundred(1 - honest["specificity"]["value"])
    between = ""
    if sensitivity["low"] is not None:
        low, high = (of_hundred(sensitivity[end]) for end in ("low", "high"))
        between = f" (95 % interval {low} to {high})"
    return (
        f"At the balanced threshold, {origin}, it flags {caught} of 100 {events}{between} and "
        f"misses {missed}; of 100 {others} it flags {flagged} (false positives)."
    )


def _honest(point: dict) -> dict:
    """What a threshold gives on images it was not chosen on: by the other folds' thresholds."""
    return point.get("cross_fitted") or point


def _weakest(found: dict) -> str:
    """The subgroups that fare worst, among those whose gap's interval leaves out zero."""
    report = found["subgroups"]
    if not report["gaps"]["intervals"]:
        return ""
    said = []
    for metric, words in (
        ("malignant_auc", "malignant from benign"),
        ("macro_auc", "diagnoses apart"),
    ):
        gap = weakest(report, metric)
        if gap is not None:
            said.append(
                f"It tells {words} worst in {gap['name']} ({gap['images']:,} images): AUC "
                f"{ranged(gap)}, against {number(gap['rest'])} in all others."
            )
            break
    gap = weakest(report, "malignant_sensitivity")
    rules = {point["rule"] for point in found["operating_points"]["points"]}
    rule = next((rule for rule in RULES if rule in rules), "")
    if gap is not None and rule:
        missed, elsewhere = (of_hundred(1 - gap[side]) for side in ("value", "rest"))
        said.append(
            f"At one threshold for all ({rule_name(rule)}) it misses {missed} of 100 malignant "
            f"pictures in {gap['name']} and {elsewhere} elsewhere."
        )
    if not said:
        largest = largest_gap(report)
        told = f" The largest to the worse: {largest}." if largest else ""
        return (
            f"**Subgroups.** {gaps_sentence(report)}{told} All are in the report under Subgroups."
        )
    return (
        f"**Weakest subgroup.** {' '.join(said)} {gaps_sentence(report)} The worst of many look "
        "worse than they are; all are in the report under Subgroups."
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
    numbers, gap = found["calibration"], found["calibration_report"]["top_label"]["gap"]
    sure, right = (whole_percent(numbers[key]) for key in ("mean_confidence", "share_right"))
    judged = ""
    if gap["low"] is not None:
        if gap["low"] <= 0 <= gap["high"] or abs(gap["value"]) < 0.01:
            judged = ": neither overconfident nor underconfident on average"
        else:
            judged = f": {'over' if gap['value'] > 0 else 'under'}confident"
    words = (
        f"**Confidence.** Its first choice gets a probability of {sure} on average and is "
        f"right in {right}{judged}."
    )
    for target, name in (("mel", "melanoma"), ("malignant", "malignancy")):
        numbers = found["calibration_report"]["targets"].get(target)
        if numbers is None or numbers["gap"]["low"] is None:
            continue
        gap = numbers["gap"]
        if gap["low"] <= 0 <= gap["high"]:
            continue
        direction = "too high" if gap["value"] > 0 else "too low"
        given, are = (
            whole_percent(numbers[key]["value"]) for key in ("mean_confidence", "frequency")
        )
        words += f" The probability of {name} is {direction}: {given} on average, where {are} are."
    return words


def _optimism(found: dict) -> str:
    """What choosing checkpoints on the scored fold does to all numbers; "" where it did not see."""
    if not found["checkpoint_saw_scored_fold"]:
        return ""
    return (
        "**Optimistic.** The epoch of each network that was kept was chosen on the same held-out "
        "fold that it is scored on here, so these numbers are somewhat better than those of new "
        "images would be."
    )


def _unknown(predictions: Predictions) -> str:
    table = predictions.table
    unknown = ["other cameras, clinics and populations than those of these pictures"]
    if not any(name in table and table[name].notna().any() for name in SKIN_TONE_COLUMNS):
        unknown.append("other skin tones: skin tone is not recorded in this table")
    return (
        "**Not covered.** Diagnoses beyond "
        f"{', '.join(predictions.labels.codes)}; {'; '.join(unknown)}; and what a doctor would "
        "decide with the patient in the room."
    )
