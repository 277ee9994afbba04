"""Columns of metadata tables that give the label away: the project's only list, with reasons.

The metadata branch of a member refuses them and `inspect` points them out. A column leaks when it
was filled in after, or because of, the diagnosis: it is not there when a new lesion is looked at.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kderm.counting import counted
from kderm.errors import UserError


@dataclass(frozen=True)
class LeakingColumn:
    """A family of columns.

    Attributes:
        patterns: names in lower case, `*` for any ending.
        reason: how they give the label away.
    """

    patterns: tuple[str, ...]
    reason: str


_CONFIRMED = "how a diagnosis was confirmed follows from what was suspected"
_SELECTED = "where an image comes from tells what it was selected for"

LEAKING = (
    LeakingColumn(
        (
            *("label", "labels", "dx", "diagnosis", "diagnosis_[0-9]*", "diagnostic", "class"),
            *("class_name", "target", "malignant", "benign_malignant"),
        ),
        "it is the label, or another name of it",
    ),
    LeakingColumn(("iddx_*",), "ISIC 2024 spells the diagnosis out in it"),
    LeakingColumn(("melanocytic",), "a part of the diagnosis"),
    LeakingColumn(("dx_type", "diagnosis_confirm_type", "diagnosis_confirm_*"), _CONFIRMED),
    LeakingColumn(
        ("biopsed", "biopsied", "concomitant_biopsy"),
        "a biopsy is taken of what is suspected; in PAD-UFES-20 every cancer has one",
    ),
    LeakingColumn(("mel_*",), "measured by the pathologist, on melanomas alone"),
    LeakingColumn(
        ("tbp_lv_dnn_lesion_confidence",),
        "the answer of another network, trained on labelled lesions",
    ),
    LeakingColumn(
        ("lesion_id", "lesion"),
        "a name, not a finding; ISIC 2024 gives one to the lesions that were worked up alone",
    ),
    LeakingColumn(
        (
            *("image_id", "isic_id", "image", "image_name", "img_id", "patient_id", "patient"),
            *("path", "row"),
        ),
        "a name, not a finding: a member would learn it by heart",
    ),
    LeakingColumn(("source", "dataset", "attribution", "copyright_license"), _SELECTED),
)


def leak_of(column: str) -> str | None:
    """Why the column of that name gives the label away; None where it does not."""
    name = "_".join(column.strip().lower().split())
    for row in LEAKING:
        if any(fnmatchcase(name, pattern) for pattern in row.patterns):
            return row.reason
    return None


def refuse_leaking(columns: Iterable[str]) -> None:
    """Refuse columns, meant as inputs of a member, that give the label away.

    Raises:
        UserError: names each of them with the reason.
    """
    leaks = {column: leak_of(column) for column in columns}
    told = [f"{column!r} ({reason})" for column, reason in leaks.items() if reason]
    if told:
        raise UserError(
            "A member may see only what is known before the diagnosis, such as age, sex and site. "
            f"Received {counted(len(told), 'column')} that would give the label away: "
            f"{'; '.join(told)}. Leave them out of model.metadata."
        )
