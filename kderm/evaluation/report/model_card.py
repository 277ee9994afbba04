"""MODEL_CARD.md: the card that goes with the members, with Hugging Face's front matter.

Filled in from the numbers and facts of the run; what only a person can know is marked as theirs.
Format: https://huggingface.co/docs/hub/model-cards (model-index of Papers with Code).
"""

import re
from collections.abc import Mapping

import yaml

from kderm.evaluation.predictions import Predictions
from kderm.evaluation.report.markdown import table
from kderm.evaluation.report.provenance import (
    DERMOSCOPIC,
    PICTURES,
    SYNTHETIC,
    WARNINGS,
    checkpoint_words,
    images_without_ids,
    sources_of,
    unruled,
)
from kderm.evaluation.report.subgroup_sections import gaps_sentence
from kderm.evaluation.report.summary import DISCLAIMER, plain_sentences
from kderm.evaluation.report.wording import fact, ranged

FOR_THE_AUTHOR = "**For the author:**"
# Key of metrics.json -> type and name in the model-index.
_METRICS = {
    "macro_auc": ("roc_auc", "Macro AUC, one against the rest"),
    "balanced_accuracy": ("balanced_accuracy", "Balanced accuracy (ISIC)"),
    "macro_f1": ("f1", "Macro F1"),
    "accuracy": ("accuracy", "Accuracy"),
    "mel_auc": ("roc_auc", "Melanoma AUC"),
    "malignant_auc": ("roc_auc", "Malignant AUC"),
}


def model_card(
    name: str,
    predictions: Predictions,
    found: dict,
    facts: Mapping[str, object],
    *,
    checkpoint: str | None,
    monitor: str | None,
) -> str:
    """The card's text.

    Args:
        name: of the run.
        predictions: its out-of-fold predictions.
        found: the content of metrics.json.
        facts: those of the report ("data set", "backbone", "loss", ...).
        checkpoint, monitor: as `write_report` takes them.
    """
    front = yaml.safe_dump(
        front_matter(name, found, facts), sort_keys=False, allow_unicode=True, width=100
    )
    parts = [
        f"---\n{front}---",
        f"# {name}",
        f"> {DISCLAIMER}",
        *(f"> {words}" for words in _warnings(predictions, facts)),
        _description(predictions, facts),
        _uses(predictions, facts),
        "## How well it works",
        "\n".join(f"- {sentence}" for sentence in plain_sentences(predictions, found)),
        _numbers(found),
        f"{checkpoint_words(checkpoint, monitor)} The whole report is `report.html` beside this "
        "card.",
        _training(facts),
        _limits(predictions, found),
        _author(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(name: str, found: dict, facts: Mapping[str, object]) -> dict:
    """The card's metadata as plain data."""
    metrics = [
        {"type": kind, "name": words, "value": round(found["pooled"][key]["value"], 4)}
        for key, (kind, words) in _METRICS.items()
        if found["pooled"].get(key, {}).get("value") is not None
    ]
    data = str(facts.get("data set", "unknown"))
    optimistic = found["checkpoint_saw_scored_fold"]
    caveat = " (optimistic: checkpoints chosen on the scored fold)" if optimistic else ""
    return {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": [
            *["dermoscopy"] * (facts.get(PICTURES) == DERMOSCOPIC),
            *("skin-lesion", "image-classification", "ensemble", "kderm"),
        ],
        "metrics": sorted({metric["type"] for metric in metrics}),
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {
                            "type": "image-classification",
                            "name": "Skin lesion classification",
                        },
                        "dataset": {
                            "name": f"{data}, out-of-fold{caveat}",
                            "type": re.sub(r"[^a-z0-9._]+", "-", data.lower()).strip("-"),
                            "split": "out-of-fold",
                        },
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }


def _warnings(predictions: Predictions, facts: Mapping[str, object]) -> list[str]:
    said = [str(facts[SYNTHETIC])] if facts.get(SYNTHETIC) else []
    if words := unruled(predictions):
        said.append(f"**Leakage cannot be ruled out.** {words}")
    return said + [str(warning) for warning in facts.get(WARNINGS, ())]


def _description(predictions: Predictions, facts: Mapping[str, object]) -> str:
    labels = predictions.labels
    folds = len(set(predictions.folds.tolist()))
    rows = [
        [code, full, "malignant" if code in labels.malignant else ""]
        for code, full in zip(labels.codes, labels.names, strict=True)
    ]
    alone = images_without_ids(predictions) == len(predictions)
    how = "cross-validation by image" if alone else "lesion-grouped cross-validation"
    kind = f"{facts[PICTURES]}; " if facts.get(PICTURES) else ""
    words = (
        f"An ensemble of {folds} networks ({fact(facts.get('backbone', 'unknown backbone'))}), one "
        f"a fold of {how}. It takes one picture of a lesion ({kind}"
        f"{fact(facts.get('input', 'see the config'))}) and gives a probability to each class, "
        f"averaged over networks and test-time views ({fact(facts.get('views', 'unknown'))})."
    )
    return f"{words}\n\n" + table(["class", "name", ""], rows)


def _uses(predictions: Predictions, facts: Mapping[str, object]) -> str:
    kind = facts.get(PICTURES)
    others = f"pictures of another kind than its own ({kind or 'see below'})"
    if kind == DERMOSCOPIC:
        others = "photographs taken without a dermatoscope"
    lines = [
        "Research on pictures of single lesions, and teaching.",
        f"Not for diagnosis, triage or reassurance; not for {others}; not for lesions that are "
        f"none of its classes ({', '.join(predictions.labels.codes)}), to which it gives one of "
        "them all the same.",
        f"{FOR_THE_AUTHOR} intended users, place in care, and who answers for it.",
    ]
    if not kind:
        lines.append(
            f"{FOR_THE_AUTHOR} how the pictures were taken (dermatoscope, camera, smartphone)."
        )
    return "## What it is for\n\n" + "\n".join(f"- {line}" for line in lines)


def _numbers(found: dict) -> str:
    has_folds = bool(found["folds"])
    rows = []
    for key, (_, words) in _METRICS.items():
        if found["pooled"].get(key, {}).get("value") is not None:
            spread = found["fold_mean"].get(key)
            folds = [f"{spread['mean']:.3f}" if spread and spread["mean"] is not None else "–"]
            rows.append([words, ranged(found["pooled"][key]), *(folds * has_folds)])
    header = ["metric", "out-of-fold (95 % interval)", *["mean over folds"] * has_folds]
    return table(header, rows)


def _training(facts: Mapping[str, object]) -> str:
    rows = [
        [key, fact(value)]
        for key, value in facts.items()
        if key not in (SYNTHETIC, WARNINGS) and value is not None
    ]
    return "## How it was made\n\n" + table(["", ""], rows) if rows else ""


def _limits(predictions: Predictions, found: dict) -> str:
    sources = sources_of(predictions)
    which = f" Sources of the images: {', '.join(sources)}." if sources else ""
    lines = [
        "The numbers are of images like those it was trained on: other cameras, clinics and "
        f"populations were not tested.{which}",
        f"Subgroups: {_subgroups(found)}",
    ]
    few = [*found["absent_classes"], *found["few_positives"]]
    if few:
        lines.append(f"Classes with no or hardly any images: {', '.join(few)}.")
    pairs = found["confused_pairs"][:3]
    if pairs:
        told = ", ".join(
            f"{pair['true']} as {pair['predicted']} ({pair['images']} images)" for pair in pairs
        )
        lines.append(f"Most frequent mistakes: {told}.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _subgroups(found: dict) -> str:
    report = found["subgroups"]
    absent = report["not_recorded"]
    said = f"Not recorded and so untested: {', '.join(absent).lower()}." if absent else ""
    if report["gaps"]["intervals"]:
        said = f"{gaps_sentence(report)} {said}"
    return said.strip() or "too few images for any."


def _author() -> str:
    asked = (
        "licence of the weights and of the images (`license:` in the front matter)",
        "who trained it, who pays, how to report a problem",
        "consent and ethics approval of the images",
        "citation",
    )
    return "## To be filled in\n\n" + "\n".join(f"- {FOR_THE_AUTHOR} {line}." for line in asked)
