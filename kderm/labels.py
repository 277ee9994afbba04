"""Label spaces: codes in a fixed order, full names, malignant flags, synonyms.

The registered ones are data, in `kderm.label_spaces`. The order of `codes` is the order of every
probability column in every table of the project. It is never derived from the rows at hand, because
a class that happens to be missing would shift columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kderm import label_spaces
from kderm.errors import UserError, nearest_names, unknown_name

# The columns p_<these> of tables are sums over the malignant classes.
MALIGNANT, UNCORRECTED = "malignant", "malignant_uncorrected"


@dataclass(frozen=True)
class LabelSpace:
    """A closed, ordered set of diagnoses.

    Attributes:
        name: registry key, or "custom".
        codes: short codes, in column order.
        names: full names, same order.
        malignant: the codes that count as malignant; a code "malignant" is all of them, whether or
            not that is said.
        synonyms: other spellings (lower case) to codes.
    """

    name: str
    codes: tuple[str, ...]
    names: tuple[str, ...]
    malignant: tuple[str, ...] = ()
    synonyms: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.codes) < 2 or len(set(self.codes)) != len(self.codes):
            raise UserError(
                "A label space needs at least two different class codes. "
                f"Received: {list(self.codes)}"
            )
        strangers = [code for code in self.malignant if code not in self.codes]
        if strangers:
            raise UserError(
                f"Malignant classes must be among the classes {list(self.codes)}. "
                f"Received: {strangers}"
            )
        self._keep_sum_apart()

    def _keep_sum_apart(self) -> None:
        """Let p_malignant, in tables the sum over the malignant classes, be no other class's."""
        if MALIGNANT in self.codes and not self.malignant:
            object.__setattr__(self, "malignant", (MALIGNANT,))
        if MALIGNANT in self.codes and self.malignant != (MALIGNANT,):
            raise UserError(
                "In tables p_malignant is the sum over the malignant classes, so a class of that "
                f"code must be the only malignant one. Received: classes {list(self.codes)}, "
                f"malignant {list(self.malignant)}. Give the class another code, or "
                "data.malignant=[malignant]."
            )
        if UNCORRECTED in self.codes:
            raise UserError(
                f"A class cannot be called {UNCORRECTED!r}: the column p_{UNCORRECTED} of tables "
                f"is taken. Received: classes {list(self.codes)}. Give the class another code."
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def columns(self) -> list[str]:
        """Probability columns of a table, `p_<code>`, in order."""
        return [f"p_{code}" for code in self.codes]

    @property
    def malignant_indices(self) -> list[int]:
        """Positions of the malignant codes."""
        return [self.codes.index(code) for code in self.malignant]

    def index(self, code: str) -> int:
        """Position of `code`; a `UserError` naming the nearest codes otherwise."""
        try:
            return self.codes.index(code)
        except ValueError:
            raise unknown_name(f"label of {self.name}", code, self.codes) from None

    def resolve(self, text: object) -> str | None:
        """The code that `text` (a code, a full name or a synonym, any case) stands for, or None."""
        return self._spellings().get(plain(text))

    def nearest(self, text: object) -> list[str]:
        """Codes whose spellings come closest to `text`, best first."""
        spellings = self._spellings()
        found = [spellings[item] for item in nearest_names(str(text), spellings)]
        return list(dict.fromkeys(found))

    def _spellings(self) -> dict[str, str]:
        table = dict(self.synonyms)
        for code, name in zip(self.codes, self.names, strict=True):
            for spelling in (code, name):
                table[plain(spelling)] = code
        return table

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        return {
            "name": self.name,
            "codes": list(self.codes),
            "names": list(self.names),
            "malignant": list(self.malignant),
        }

    @classmethod
    def from_dict(cls, data: dict) -> "LabelSpace":
        """The label space that `to_dict` described (synonyms come back with a registered name)."""
        known = LABEL_SPACES.get(data["name"])
        if known is not None and list(known.codes) == list(data["codes"]):
            return replace(known, malignant=tuple(data["malignant"]))
        return cls(
            data["name"], tuple(data["codes"]), tuple(data["names"]), tuple(data["malignant"])
        )


def plain(text: object) -> str:
    """A label's spelling as it is compared: lower case, one space for hyphens and underscores."""
    return " ".join(str(text).lower().replace("_", " ").replace("-", " ").split())


def _made_of(row: dict) -> LabelSpace:
    codes, names = tuple(row["classes"]), tuple(row["classes"].values())
    return LabelSpace(row["name"], codes, names, row["malignant"], row["synonyms"])


LABEL_SPACES: dict[str, LabelSpace] = {row["name"]: _made_of(row) for row in label_spaces.ROWS}
HAM10000 = LABEL_SPACES["ham10000"]
ISIC2019 = LABEL_SPACES["isic2019"]
PAD_UFES20 = LABEL_SPACES["pad_ufes20"]
BINARY = LABEL_SPACES["binary"]


def label_space(
    name: str, classes: Sequence[str] = (), malignant: Sequence[str] = ()
) -> LabelSpace:
    """The registered label space `name`, or for "custom" one made of `classes` in that order.

    Args:
        name: a key of `LABEL_SPACES`, or "custom".
        classes: codes, for "custom" only.
        malignant: the malignant codes; for a registered space they replace its own. Without any a
            class called "malignant" is the malignant one.
    """
    if name == "custom":
        if not classes:
            raise UserError(
                "data.labels is 'custom', so data.classes must list the class codes in order. "
                "Received: no classes."
            )
        return LabelSpace("custom", tuple(classes), tuple(classes), tuple(malignant))
    if name not in LABEL_SPACES:
        raise unknown_name("label space", name, [*LABEL_SPACES, "custom"])
    if classes:
        raise UserError(
            "data.classes belongs to data.labels=custom; the registered label spaces have a fixed "
            f"order. Received: labels={name!r} together with classes {list(classes)}. Set "
            "data.labels=custom, or leave out data.classes."
        )
    space = LABEL_SPACES[name]
    return replace(space, malignant=tuple(malignant)) if malignant else space
