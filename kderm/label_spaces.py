"""The registered label spaces: plain data, which `kderm.labels` makes `LabelSpace` objects of.

The order of `classes` is the order of every probability column, so it never changes. Synonyms are
in lower case, with a space for each hyphen and underscore. How labels of one space translate to
another is data too, in `kderm.label_maps`.
"""

# HAM10000 and ISIC 2018 Task 3. Malignant: akiec holds carcinoma in situ beside precancers, and of
# its images that ISIC 2019 labels anew more are squamous cell carcinoma than actinic keratosis.
HAM10000 = {
    "name": "ham10000",
    "classes": {
        "akiec": "Actinic keratosis / intraepithelial carcinoma",
        "bcc": "Basal cell carcinoma",
        "bkl": "Benign keratosis",
        "df": "Dermatofibroma",
        "mel": "Melanoma",
        "nv": "Melanocytic nevus",
        "vasc": "Vascular lesion",
    },
    "malignant": ("akiec", "bcc", "mel"),
    "synonyms": {
        "actinic keratosis": "akiec",
        "actinic keratoses": "akiec",
        "bowen's disease": "akiec",
        "basal cell carcinomas": "bcc",
        "benign keratosis like lesions": "bkl",
        "pigmented benign keratosis": "bkl",
        "seborrheic keratosis": "bkl",
        "lichenoid keratosis": "bkl",
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
}

# ISIC 2019, eight classes and what is none of them; the diagnoses of ISIC 2020 fit in it too.
# Malignant: carcinomas and melanoma; actinic keratosis is a precancer. `unk` may be anything.
ISIC2019 = {
    "name": "isic2019",
    "classes": {
        "ak": "Actinic keratosis",
        "bcc": "Basal cell carcinoma",
        "bkl": "Benign keratosis",
        "df": "Dermatofibroma",
        "mel": "Melanoma",
        "nv": "Melanocytic nevus",
        "scc": "Squamous cell carcinoma",
        "vasc": "Vascular lesion",
        "unk": "Unknown or none of the others",
    },
    "malignant": ("bcc", "mel", "scc"),
    "synonyms": {
        "actinic keratoses": "ak",
        "solar keratosis": "ak",
        "basal cell carcinomas": "bcc",
        "benign keratosis like lesions": "bkl",
        "pigmented benign keratosis": "bkl",
        "seborrheic keratosis": "bkl",
        "lichenoid keratosis": "bkl",
        "solar lentigo": "bkl",
        "lentigo nos": "bkl",
        "dermatofibromas": "df",
        "melanomas": "mel",
        "nevus": "nv",
        "nevi": "nv",
        "naevus": "nv",
        "melanocytic nevi": "nv",
        "bowen's disease": "scc",
        "vascular": "vasc",
        "vascular lesions": "vasc",
        "unknown": "unk",
        # One image each in ISIC 2020; its winner took them for unknown too.
        # Source: Ha et al. 2020, arXiv:2010.05351.
        "cafe au lait macule": "unk",
        "atypical melanocytic proliferation": "unk",
    },
}

# Smartphone photographs. Its squamous cell carcinomas include Bowen's disease.
# Source: Pacheco et al. 2020, doi:10.1016/j.dib.2020.106221.
PAD_UFES20 = {
    "name": "pad_ufes20",
    "classes": {
        "ack": "Actinic keratosis",
        "bcc": "Basal cell carcinoma",
        "mel": "Melanoma",
        "nev": "Nevus",
        "scc": "Squamous cell carcinoma",
        "sek": "Seborrheic keratosis",
    },
    "malignant": ("bcc", "mel", "scc"),
    "synonyms": {
        "actinic keratoses": "ack",
        "bowen's disease": "scc",
        "melanocytic nevus": "nev",
        "melanocytic nevi": "nev",
        "naevus": "nev",
        "nevi": "nev",
    },
}

BINARY = {
    "name": "binary",
    "classes": {"benign": "Benign", "malignant": "Malignant"},
    "malignant": ("malignant",),
    "synonyms": {"0": "benign", "1": "malignant", "0.0": "benign", "1.0": "malignant"},
}

ROWS = (HAM10000, ISIC2019, PAD_UFES20, BINARY)
