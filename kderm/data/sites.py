"""Body sites: what the data sets call them, and the one coarse vocabulary that a member sees.

The manifest keeps the source's own spelling; `kderm.data.metadata` translates when it encodes. The
spelling alone would tell the source: "anterior torso" is written by ISIC 2019 only (19 % of these
images are melanomas), "torso" by ISIC 2020 only (1.5 %), "BACK" and "FOREARM" by PAD-UFES-20. So
the words below are as coarse as the coarsest source: what one of them cannot say, none of them
says. Plain data, as `kderm.label_maps` is.
"""

# The words of ISIC 2020, the coarsest source.
SITES = (
    "head/neck",
    "torso",
    "upper extremity",
    "lower extremity",
    "palms/soles",
    "oral/genital",
)

# Source -> coarse word -> its spellings in lower case, "_" as a space.
SPELLINGS: dict[str, dict[str, tuple[str, ...]]] = {
    # anatom_site_general_challenge of the training table.
    "isic2020": {site: (site,) for site in SITES},
    # anatom_site_general of 2019, 2024 and the ISIC archive.
    "isic2019": {site: (site,) for site in SITES if site != "torso"}
    | {"torso": ("anterior torso", "posterior torso", "lateral torso")},
    # localization. ISIC 2019 has the same images in its own words, and these agree with it but for
    # "trunk" and "genital", of which it says nothing: a hand is an upper extremity there and a foot
    # a lower one, while "acral" is palms/soles.
    "ham10000": {
        "head/neck": ("face", "scalp", "ear", "neck"),
        "torso": ("back", "chest", "abdomen", "trunk"),
        "upper extremity": ("upper extremity", "hand"),
        "lower extremity": ("lower extremity", "foot"),
        "palms/soles": ("acral",),
        "oral/genital": ("genital",),
    },
    # region, upper-case in the table. It does not say whether a lip is meant with its skin or its
    # mucosa; most of its lesions are of sunlit skin, so a lip is a part of the head.
    "pad_ufes20": {
        "head/neck": ("face", "scalp", "ear", "nose", "lip", "neck"),
        "torso": ("back", "chest", "abdomen"),
        "upper extremity": ("arm", "forearm", "hand"),
        "lower extremity": ("thigh", "foot"),
    },
    # For tables of one's own. Where the trunk ends is ICD-10's answer (C43.5 to C43.7): buttock,
    # groin, breast and armpit belong to it; the shoulder to the arm; the hip to the leg.
    "table": {
        "head/neck": (
            *("head", "head and neck", "head & neck", "forehead", "temple", "cheek", "chin"),
            *("eyelid", "nape"),
        ),
        "torso": (
            *("upper back", "lower back", "breast", "flank", "belly", "buttock"),
            *("buttocks", "groin", "axilla", "armpit"),
        ),
        "upper extremity": (
            *("upper limb", "upper extremities", "upper arm", "lower arm", "shoulder", "elbow"),
            *("wrist", "finger"),
        ),
        "lower extremity": (
            *("lower limb", "lower extremities", "leg", "upper leg", "lower leg", "hip", "knee"),
            *("calf", "shin", "ankle", "toe"),
        ),
        "palms/soles": ("palm", "sole", "palms", "soles", "palms and soles", "palms or soles"),
        "oral/genital": ("oral", "mouth", "mucosa", "genitals", "oral and genital"),
    },
}

_COARSE = {
    spelling: site
    for words in SPELLINGS.values()
    for site, spellings in words.items()
    for spelling in spellings
}


def coarse_site(word: str) -> str | None:
    """The word of `SITES` for any source's spelling, or None for one that no source has.

    Args:
        word: in any case, with "_" or spaces.
    """
    return _COARSE.get(" ".join(word.lower().replace("_", " ").split()))
