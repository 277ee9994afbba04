"""What a reader without medical training calls the classes of the registered label spaces.

Plain data: a short name, and a line that says what it is. The medical name is always shown beside
it. A class that is not here is called by its full name.
"""

from dataclasses import dataclass

from kderm.labels import LabelSpace


@dataclass(frozen=True)
class LayName:
    """A class in plain words.

    Attributes:
        name: what to call it.
        about: what it is, in a short line; "" where nothing is known of it.
    """

    name: str
    about: str


_ACTINIC = LayName("Scaly sun spot", "rough skin after years of sun; it can turn into cancer")
_BASAL = LayName("Basal cell skin cancer", "the most common skin cancer; it grows slowly")
_SQUAMOUS = LayName("Squamous cell skin cancer", "a skin cancer that can spread")
_MELANOMA = LayName("Melanoma", "the most dangerous skin cancer")
_MOLE = LayName("Mole", "a harmless mark of pigment cells")
_AGE_SPOT = LayName("Age spot or age wart", "a harmless growth that comes with the years")
_FIBROMA = LayName("Firm skin knot", "a harmless small lump, often on a leg")
_VESSEL = LayName("Blood vessel spot", "a mostly harmless mark of small blood vessels")

LAY_NAMES: dict[str, dict[str, LayName]] = {
    "ham10000": {
        "akiec": LayName(
            "Scaly sun spot or earliest skin cancer",
            "rough skin after years of sun, or cancer still in the top layer",
        ),
        "bcc": _BASAL,
        "bkl": _AGE_SPOT,
        "df": _FIBROMA,
        "mel": _MELANOMA,
        "nv": _MOLE,
        "vasc": _VESSEL,
    },
    "isic2019": {
        "ak": _ACTINIC,
        "bcc": _BASAL,
        "bkl": _AGE_SPOT,
        "df": _FIBROMA,
        "mel": _MELANOMA,
        "nv": _MOLE,
        "scc": _SQUAMOUS,
        "vasc": _VESSEL,
        "unk": LayName("Something else", "none of the others"),
    },
    "pad_ufes20": {
        "ack": _ACTINIC,
        "bcc": _BASAL,
        "mel": _MELANOMA,
        "nev": _MOLE,
        "scc": _SQUAMOUS,
        "sek": LayName("Age wart", "a harmless growth that comes with the years"),
    },
    "binary": {
        "benign": LayName(
            "Harmless", "more like the harmless spots that it learnt from than like the cancers"
        ),
        "malignant": LayName("Skin cancer", "any kind of it"),
    },
}


def lay_name(labels: LabelSpace, code: str) -> LayName:
    """The class `code` in plain words; by its full name where there are none."""
    known = LAY_NAMES.get(labels.name, {}).get(code)
    return known or LayName(labels.names[labels.index(code)], "")
