"""`weights` and `doctor`: what there is to start from, and what works here."""

from pathlib import Path

from kderm import console
from kderm.errors import UserError
from kderm.runtime import check_backend


def weights_list(part: str) -> None:
    """`weights list`: the registry and where each row's weights are."""
    from kderm.models.weights import list_weights

    found = list_weights()
    found = found[found["preset"].str.contains(part, case=False, regex=False)]
    if found.empty:
        raise UserError(f"No preset's name contains {part!r}. See all with: weights list")
    console.say(console.table(found.fillna("").to_numpy().tolist(), list(found.columns)))


def weights_fetch(preset: str, into: str | None) -> None:
    """`weights fetch`: download for a machine with no network."""
    check_backend()
    from kderm.models.weights import fetch_weights, weights_root

    path = fetch_weights(preset, Path(into) if into else weights_root())
    console.say(f"{preset}: {path}\nUse it with: model.preset={preset} model.weights={path}")


def doctor() -> None:
    """`doctor`: what works here."""
    from kderm.doctor import examine

    console.say(console.table(examine(), ["what", "state"]))
