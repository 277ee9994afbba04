"""The one exception that means "the user can mend this": the CLI prints it and exits with 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input, told as one paragraph: expected, received, what to do."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def reason_of(error: BaseException) -> str:
    """The class of an error and the first line of its message, cut where that is very long."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line[:300]}"


def nearest_names(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` known names close to `name`, best first, ignoring case; none if none is."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.6)
    return [by_lower[item] for item in close]


def unknown_name(kind: str, name: str, known: Iterable[str], do: str = "") -> UserError:
    """A `UserError` for a name that no registry row carries, with the nearest known ones."""
    known = list(known)
    close = nearest_names(name, known)
    if close:
        hint = f"Did you mean {' or '.join(repr(item) for item in close)}?"
    else:
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        hint = f"Known: {shown}."
    return UserError(f"Unknown {kind}. {hint} Received: {name!r}. {do}".rstrip())


def missing_extra(package: str, extra: str, purpose: str) -> UserError:
    """A `UserError` for an optional dependency that is not installed."""
    return UserError(
        f"{purpose} needs the package {package!r}, which is not installed. "
        f"Install it, in kderm's folder, with: pip install -e '.[{extra}]'"
    )
