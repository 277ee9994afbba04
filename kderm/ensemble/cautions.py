"""What makes the answers of one call worth less than they look, a sentence each.

`kderm.ensemble.result` prints them and puts them at the top of the report. Sees tables only.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from kderm.counting import counted
from kderm.data.views import VIEWS
from kderm.ensemble.bundle import Bundle
from kderm.ensemble.early_exit import FEWEST_PASSES, can_leave
from kderm.ensemble.inputs import Inputs
from kderm.ensemble.settings import Settings
from kderm.ensemble.unlike import expected_warnings


def all_warnings(
    bundle: Bundle, inputs: Inputs, table: pd.DataFrame, settings: Settings, seen: int | None
) -> tuple[str, ...]:
    """What makes the answers worth less than they look.

    Args:
        bundle: the ensemble that answered.
        inputs: the images.
        table: of `kderm.ensemble.result_table`, in the order of the inputs.
        settings: how the answers were made.
        seen: of `count_seen`.
    """
    return warnings_of(
        *(bundle, inputs, settings),
        answered=int((table["error"] == "").sum()),
        unlike=int((table["unlike_training"] == 1).sum()),
        seen=seen,
    )


def warnings_of(
    bundle: Bundle,
    inputs: Inputs,
    settings: Settings,
    *,
    answered: int,
    unlike: int,
    seen: int | None,
) -> tuple[str, ...]:
    """The same of a table that is not in memory: of rows that have an answer, look unlike, ..."""
    return (
        *inputs.warnings,
        *synthetic_warnings(bundle),
        *metadata_warnings(bundle, inputs),
        *unlike_told(unlike, answered),
        *seen_warnings(seen, answered, bundle),
        *smaller_warnings(bundle),
        *early_exit_warnings(bundle, settings),
        *settings_warnings(bundle, settings),
    )


def count_seen(trained_on: set[str] | None, inputs: Inputs, readable: np.ndarray) -> int | None:
    """Readable images whose id or file name is among the ids `trained_on`; None without these."""
    if trained_on is None:
        return None
    rows = inputs.table[readable]
    return sum(
        image_id in trained_on or Path(path).stem in trained_on
        for image_id, path in zip(rows["image_id"], rows["path"], strict=True)
    )


def synthetic_warnings(bundle: Bundle) -> tuple[str, ...]:
    """What to say of an ensemble that never saw a photograph."""
    if not bundle.facts.synthetic:
        return ()
    return (
        "SYNTHETIC: the ensemble learnt from images drawn by a program; its answers say nothing "
        "medical.",
    )


def metadata_warnings(bundle: Bundle, inputs: Inputs) -> tuple[str, ...]:
    """What a reader must know about images without the metadata that the members look at."""
    spec = bundle.metadata
    if spec is None:
        return ()
    known = spec.known(spec.encode(inputs.table))  # bool (n, columns)
    none = int((~known.any(axis=1)).sum())
    part = int((~known.all(axis=1)).sum()) - none
    if not none and not part:
        return ()
    asked = ", ".join(spec.names)
    return (
        f"the members look at {asked} beside the image; {none:,} of {counted(len(known), 'image')} "
        f"had none of them and {part:,} only a part. A CSV with these columns gives them.",
    )


def unlike_told(count: int, answered: int) -> tuple[str, ...]:
    """What a reader must know of `count` images such as the members never saw, of all answered."""
    if count <= expected_warnings(answered):
        return ()
    look = "looks" if count == 1 else "look"
    return (
        f"{count:,} of {counted(answered, 'image')} {look} unlike what the ensemble was trained on "
        "(column 'unlike_training'; about 1 % of images like those of training do too): what is "
        "said about them is a guess, however sure it looks.",
    )


def seen_warnings(seen: int | None, images: int, bundle: Bundle) -> tuple[str, ...]:
    """What a reader must know about images that the members were trained on."""
    members = len(bundle.facts.members)
    if seen is None:
        return (
            "the run's out-of-fold table is not beside the bundle, so it is unknown whether the "
            "ensemble was trained on these images.",
        )
    if not seen:
        return ()
    share = "ALL" if seen == images else f"{seen:,} of"
    have = "has" if seen == 1 else "have"
    which = "members" if bundle.facts.smaller else f"{members - 1} of {members} members"
    return (
        f"{share} {counted(images, 'image')} {have} the id of an image of the run, on which "
        f"{which} were trained: what is said about them is memory, not a test. The run's "
        "out-of-fold table is the honest word on them.",
    )


def smaller_warnings(bundle: Bundle) -> tuple[str, ...]:
    """What to say of a bundle of other members than those that the run measured."""
    if bundle.facts.smaller is None:
        return ()
    return (
        f"these answers are those of {bundle.facts.smaller} of the run {bundle.facts.run}; "
        "calibration, thresholds and sets were fitted on its members' answers to images that they "
        "held out.",
    )


def early_exit_warnings(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """What to say of an early exit by which no image can leave."""
    if not settings.early_exit or _can_leave(bundle, settings):
        return ()
    members, views = len(bundle.facts.members), VIEWS[settings.views].count
    return (
        f"early exit at {settings.early_exit:g} saves nothing here: an image leaves after "
        f"{FEWEST_PASSES} passes at the earliest, and {counted(members, 'member')} x "
        f"{counted(views, 'view')} leave none to save.",
    )


def _can_leave(bundle: Bundle, settings: Settings) -> bool:
    return can_leave(len(bundle.facts.members), VIEWS[settings.views].count)


def settings_warnings(bundle: Bundle, settings: Settings) -> tuple[str, ...]:
    """What a reader must know about answers of another kind than those that the run measured.

    Its out-of-fold table, and with it calibration, thresholds and sets, is of the bundle's views in
    float32, every pass made, whatever the bundle says of predictions.
    """
    told = {
        "views {}": (settings.views, bundle.facts.views),
        "combine {}": (settings.combine, bundle.facts.combine),
        "precision {}": (settings.precision, "float32"),
        "early exit at {:g}": (settings.early_exit if _can_leave(bundle, settings) else 0.0, 0.0),
    }
    if all(here == own for here, own in told.values()):
        return ()
    here = ", ".join(words.format(mine) for words, (mine, own) in told.items() if mine != own)
    every = {"early exit at {:g}": "all passes of every image"}
    there = ", ".join(
        every.get(words, words).format(own) for words, (mine, own) in told.items() if mine != own
    )
    of_run = f"the run's out-of-fold report speaks of {there}"
    if bundle.threshold is not None:
        of_run += ", and calibration, thresholds and sets were fitted with that"
    return (f"these answers were made with {here}; {of_run}. How well it holds here is not known.",)
