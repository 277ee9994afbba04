"""What is refused, told by the arguments of the function that was called.

The rooms below name an option by its key in a config (`data.root`), because a command line and a
file do. Whoever gave it as an argument (`root=`) reads its name here.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from kderm.errors import UserError

_EVERYWHERE = {"in the overrides": "in the arguments"}


@contextlib.contextmanager
def in_arguments(names: Mapping[str, str]) -> Iterator[None]:
    """Tell the UserErrors of a block by other names.

    Args:
        names: what an option is called in a config or on a command line -> its argument. A word is
            replaced where it stands alone: `data.map` leaves `data.map.x` as it is, and a path.
    """
    try:
        yield
    except UserError as error:
        error.args = (renamed(str(error), names),)
        raise


def renamed(text: str, names: Mapping[str, str]) -> str:
    """`text` with each of `names` replaced where it stands alone."""
    words = _EVERYWHERE | dict(names)
    found = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(
        rf"(?<![\w./=-])({found})(?![\w/-]|\.\w|\.<)", lambda match: words[match[1]], text
    )


def is_int(value: object) -> bool:
    """Whether `value` is an integer, Python's or numpy's, and no bool."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def require_count(name: str, meaning: str, value: object) -> None:
    """Refuse what is no integer from 1 on, given as the argument `name`, which counts `meaning`.

    Raises:
        UserError: it is none.
    """
    if not is_int(value) or value < 1:
        raise UserError(f"Expected {name}, {meaning}, from 1 on. Received: {value!r}.")
