"""How the classes of one label space translate to those of another: plain data with reasons.

A code leads to the codes that it may be in the other space: to one, and it is translated; to
several, and it is ambiguous; to none, and it has no counterpart, or only a part of it has one. The
user decides the latter two (`data.map`), never a guess. There is no map out of `binary`.
"""

from dataclasses import dataclass

from kderm.labels import LABEL_SPACES


@dataclass(frozen=True)
class LabelMap:
    """The translation from one registered label space to another.

    Attributes:
        source, target: names of the label spaces.
        targets: each code of `source` to the codes of `target` that it may be.
        reasons: code of `source` to why it leads where it leads, where that is not plain.
    """

    source: str
    target: str
    targets: dict[str, tuple[str, ...]]
    reasons: dict[str, str]

    @property
    def undecided(self) -> tuple[str, ...]:
        """The codes that do not lead to exactly one code."""
        return tuple(code for code, found in self.targets.items() if len(found) != 1)

    @property
    def one_to_one(self) -> bool:
        """Whether each code leads to exactly one code, and no two to the same."""
        found = [code for codes in self.targets.values() for code in codes]
        return not self.undecided and len(set(found)) == len(found)


def label_map(source: str, target: str) -> LabelMap | None:
    """The map between two registered label spaces, or None where there is none."""
    return LABEL_MAPS.get((source, target))


_AKIEC = "HAM10000's akiec holds actinic keratoses and carcinomas in situ alike"
_SCC = "akiec holds carcinoma in situ only, this class invasive carcinoma too"
_NO_CLASS = "the other label space has no such class"
_UNKNOWN = "it may be anything"
_BKL = "solar lentigo and lichenoid keratosis are in it beside seborrheic keratosis"
_PRECANCER = "a precancer, not a carcinoma"
_IN_SITU = "carcinoma in situ is in it; counted as malignant with the precancers beside it"


def _row(
    source: str, target: str, targets: dict[str, str], reasons: dict[str, str] | None = None
) -> LabelMap:
    """A row of `LABEL_MAPS`: `targets` in words, codes that keep their name left out."""
    own, codes = LABEL_SPACES[source].codes, LABEL_SPACES[target].codes
    full = {code: code if code in codes else "" for code in own} | targets
    return LabelMap(
        source, target, {code: tuple(text.split()) for code, text in full.items()}, reasons or {}
    )


def _to_binary(source: str, undecided: tuple[str, ...], reasons: dict[str, str]) -> LabelMap:
    """Malignant is what the source space says is malignant."""
    space = LABEL_SPACES[source]
    side = {code: "malignant" if code in space.malignant else "benign" for code in space.codes}
    return _row(source, "binary", side | dict.fromkeys(undecided, ""), reasons)


_ROWS = (
    _row(
        "ham10000",
        "isic2019",
        {"akiec": "ak scc"},
        {"akiec": _AKIEC},
    ),
    _row(
        "isic2019",
        "ham10000",
        {"ak": "akiec", "scc": "", "unk": ""},
        {"ak": "a part of akiec", "scc": _SCC, "unk": _UNKNOWN},
    ),
    _row(
        "pad_ufes20",
        "isic2019",
        {"ack": "ak", "nev": "nv", "sek": "bkl"},
        {"sek": "a part of bkl"},
    ),
    _row(
        "isic2019",
        "pad_ufes20",
        {"ak": "ack", "nv": "nev", "bkl": "", "df": "", "vasc": "", "unk": ""},
        {"bkl": _BKL, "df": _NO_CLASS, "vasc": _NO_CLASS, "unk": _UNKNOWN},
    ),
    _row(
        "pad_ufes20",
        "ham10000",
        {"ack": "akiec", "nev": "nv", "scc": "", "sek": "bkl"},
        {"ack": "a part of akiec", "scc": _SCC, "sek": "a part of bkl"},
    ),
    _row(
        "ham10000",
        "pad_ufes20",
        {"akiec": "ack scc", "nv": "nev", "bkl": "", "df": "", "vasc": ""},
        {"akiec": _AKIEC, "bkl": _BKL, "df": _NO_CLASS, "vasc": _NO_CLASS},
    ),
    _to_binary("ham10000", (), {"akiec": _IN_SITU}),
    _to_binary("isic2019", ("unk",), {"ak": _PRECANCER, "unk": _UNKNOWN}),
    _to_binary("pad_ufes20", (), {"ack": _PRECANCER}),
)

LABEL_MAPS: dict[tuple[str, str], LabelMap] = {(row.source, row.target): row for row in _ROWS}
