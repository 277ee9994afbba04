"""Label spaces as data: codes in a fixed order, full names, malignant flags, synonyms.

The order of `codes` is the order of every probability column in every table of the project. It is
never derived from the rows at hand, because a class that happens to be missing would shift columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kderm.errors import UserError, nearest_names, unknown_name


@dataclass(frozen=True)
class LabelSpace:
    """A closed, ordered set of diagnoses.

    Attributes:
        name: registry key, or "custom".
        codes: short codes, in column order.
        names: full names, same order.
        malignant: the codes that count as malignant.
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
        key = " ".join(str(text).strip().lower().replace("_", " ").replace("-", " ").split())
        return self._spellings().get(key)

    def nearest(self, text: object) -> list[str]:
        """Codes whose spellings come closest to `text`, best first."""
        spellings = self._spellings()
        found = [spellings[item] for item in nearest_names(str(text), spellings)]
        return list(dict.fromkeys(found))

    def _spellings(self) -> dict[str, str]:
        table = dict(self.synonyms)
        for code, name in zip(self.codes, self.names, strict=True):
            for spelling in (code, name):
                table[spelling.lower().replace("_", " ").replace("-", " ")] = code
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
            return known
        return cls(
            data["name"], tuple(data["codes"]), tuple(data["names"]), tuple(data["malignant"])
        )


HAM10000 = LabelSpace(
    name="ham10000",
    codes=("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
    names=(
        "Actinic keratosis / intraepithelial carcinoma",
        "Basal cell carcinoma",
        "Benign keratosis",
        "Dermatofibroma",
        "Melanoma",
        "Melanocytic nevus",
        "Vascular lesion",
    ),
    malignant=("akiec", "bcc", "mel"),
    synonyms={
        "actinic keratosis": "akiec",
        "actinic keratoses": "akiec",
        "bowen's disease": "akiec",
        "basal cell carcinomas": "bcc",
        "benign keratosis like lesions": "bkl",
        "pigmented benign keratosis": "bkl",
        "seborrheic keratosis": "bkl",
        "solar lentigo": "bkl",
        "dermatofibromas": "df",
        "melanomas": "mel",
        "nevus": "nv",
        "nevi": "nv",
        "naevus": "nv",
        "melanocytic nevi": "nv",
        "vascular": "vasc",
        "vascular lesions": "vasc",
    },
)

BINARY = LabelSpace(
    name="binary",
    codes=("benign", "malignant"),
    names=("Benign", "Malignant"),
    malignant=("malignant",),
    synonyms={"0": "benign", "1": "malignant", "0.0": "benign", "1.0": "malignant"},
)

LABEL_SPACES: dict[str, LabelSpace] = {space.name: space for space in (HAM10000, BINARY)}


def label_space(
    name: str, classes: Sequence[str] = (), malignant: Sequence[str] = ()
) -> LabelSpace:
    """The registered label space `name`, or for "custom" one made of `classes` in that order."""
    if name == "custom":
        if not classes:
            raise UserError(
                "data.labels is 'custom', so data.classes must list the class codes in order. "
                "Received: no classes."
            )
        return LabelSpace("custom", tuple(classes), tuple(classes), tuple(malignant))
    if classes or malignant:
        raise UserError(
            "data.classes and data.malignant belong to data.labels=custom. "
            f"Received: labels={name!r} together with classes or malignant."
        )
    if name not in LABEL_SPACES:
        raise unknown_name("label space", name, [*LABEL_SPACES, "custom"])
    return LABEL_SPACES[name]
