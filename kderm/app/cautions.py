"""What weakens the answers of one request, in the page's words, a sentence each.

The facts are those of `kderm.ensemble.cautions`, which speaks to whoever runs a command; here the
reader knows pictures and networks. Sees names and tables; no picture.
"""

from collections.abc import Sequence
from pathlib import PurePath

import pandas as pd

from kderm.counting import counted
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.cautions import settings_warnings
from kderm.ensemble.settings import Settings
from kderm.ensemble.unlike import expected_warnings

# Names that one sentence lists.
_LISTED = 3


def cautions(
    bundle: Bundle, settings: Settings, names: Sequence[str], trained_on: set[str] | None
) -> tuple[str, ...]:
    """What weakens the answers, whatever they are.

    Args:
        bundle: who answers.
        settings: how.
        names: of the pictures that have an answer, as they were sent.
        trained_on: of `Bundle.trained_on`.
    """
    return (
        *(_seen(bundle, names, trained_on) if names else ()),
        *_smaller(bundle),
        *(_lay(warning) for warning in settings_warnings(bundle, settings)),
    )


def unlike(table: pd.DataFrame) -> tuple[str, ...]:
    """What to say where more pictures look strange than chance brings.

    Args:
        table: the columns of predictions.csv.
    """
    count = int((table["unlike_training"] == 1).sum())
    answered = int((table["error"] == "").sum())
    if count <= expected_warnings(answered):
        return ()
    look = "looks" if count == 1 else "look"
    return (
        f"{count:,} of {counted(answered, 'picture')} {look} unlike those that the ensemble learnt "
        "from; of pictures like those about 1 in 100 does. What is said there is a guess, however "
        "sure it looks.",
    )


def _seen(bundle: Bundle, names: Sequence[str], trained_on: set[str] | None) -> tuple[str, ...]:
    """Nothing but names is compared: a run keeps its pictures' ids, and nothing of their bytes."""
    if trained_on is None:
        return (
            "The names of the pictures that the ensemble learnt from are not here, so it is "
            "unknown whether the ensemble was trained on these.",
        )
    known = [name for name in names if PurePath(name).stem in trained_on]
    if not known:
        return ()
    members = len(bundle.facts.members)
    all_of_them = bundle.facts.smaller is not None or members == 1
    whose = "the ensemble" if all_of_them else f"{members - 1} of {members} networks"
    one = len(known) == 1
    which = "A picture of this name was" if one else "Pictures of these names were"
    same = "it is the same picture" if one else "they are the same pictures"
    return (
        f"{_listed(known)}: {which} in the training data of {whose}. If {same}, what is said here "
        "is memory, not a test. Only names are compared, so a picture under another name would "
        "not be noticed.",
    )


def _listed(names: Sequence[str]) -> str:
    others = len(names) - _LISTED
    more = f" and {counted(others, 'other')}" if others > 0 else ""
    return ", ".join(names[:_LISTED]) + more


def _smaller(bundle: Bundle) -> tuple[str, ...]:
    if bundle.facts.smaller is None:
        return ()
    return (
        f"These answers are those of {_lay(bundle.facts.smaller)} of the run {bundle.facts.run}. "
        "Calibration and thresholds were fitted on what all its networks said of pictures that "
        "were new to them.",
    )


def _lay(words: str) -> str:
    """Words for whoever runs a command, for whom a network is a member and a picture an image."""
    return words.replace("member", "network").replace("image", "picture")
