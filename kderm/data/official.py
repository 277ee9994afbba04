"""Where the official files of each data set are, as data: addresses, sizes, licences, checksums.

Read by `data.fetch`. A checksum stands here only if two independent records agree on it, or one
and a copy at hand; of the other files the server's own word is taken.
"""

from dataclasses import dataclass

_ISIC = "https://isic-archive.s3.amazonaws.com/challenges"
_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile"
_MENDELEY = "https://data.mendeley.com/public-files/datasets/zr7vgbcyr2/files"
_MB = 10**6


@dataclass(frozen=True)
class OfficialFile:
    """One file of a data set.

    Attributes:
        name: what it is called in the data set's folder.
        url: where it is fetched from.
        size: bytes, about where only that is known; for the disk space and the progress.
        checksum: "md5:<hex>" or "sha256:<hex>"; "" where none is published.
        folder: of an archive, the folder that its files are unpacked into; "" for other files.
        images: how many images that folder holds, 0 if not known; tells a folder put there by hand
            from a half copied one.
    """

    name: str
    url: str
    size: int
    checksum: str = ""
    folder: str = ""
    images: int = 0


@dataclass(frozen=True)
class OfficialDataset:
    """A data set as its publisher offers it.

    Attributes:
        title: for people.
        licence: short name of the licence of the images.
        page: the publisher's page, for reading the terms and for fetching by hand.
        files: what `fetch_dataset` fetches.
        by_hand: how to get it where no program may; `files` is empty then.
    """

    title: str
    licence: str
    page: str
    files: tuple[OfficialFile, ...] = ()
    by_hand: str = ""


def _isic2018(part: str, images: int, size: int, truth: str = "") -> tuple[OfficialFile, ...]:
    stem = f"ISIC2018_Task3_{part}"
    images_file = OfficialFile(
        f"{stem}_Input.zip",
        f"{_ISIC}/2018/{stem}_Input.zip",
        size,
        folder=f"{stem}_Input",
        images=images,
    )
    labels_file = OfficialFile(
        f"{stem}_GroundTruth.zip",
        f"{_ISIC}/2018/{stem}_GroundTruth.zip",
        _MB,
        truth,
        folder=f"{stem}_GroundTruth",
    )
    return labels_file, images_file


def _isic(year: int, name: str, size: int, checksum: str = "", **archive) -> OfficialFile:
    return OfficialFile(name, f"{_ISIC}/{year}/{name}", size, checksum, **archive)


def _pad(name: str, number: str, size: int, sha256: str, folder: str = "") -> OfficialFile:
    url = f"{_MENDELEY}/{number}/file_downloaded"
    return OfficialFile(name, url, size, f"sha256:{sha256}", folder)


OFFICIAL: dict[str, OfficialDataset] = {
    "ham10000": OfficialDataset(
        "HAM10000 (Tschandl et al. 2018)",
        "CC BY-NC 4.0",
        "https://doi.org/10.7910/DVN/DBW86T",
        (
            # format=original: what Dataverse serves otherwise is its own tab-separated copy.
            OfficialFile(
                "HAM10000_metadata.csv",
                f"{_DATAVERSE}/4338392?format=original",
                690_218,
                "md5:8f85fb1aa29d80a2797247e434deb79d",
            ),
            OfficialFile(
                "HAM10000_images_part_1.zip",
                f"{_DATAVERSE}/3172585",
                1_366_522_108,
                "md5:4639bfa73ab251610530a97c898e6e46",
                "HAM10000_images_part_1",
                5000,
            ),
            OfficialFile(
                "HAM10000_images_part_2.zip",
                f"{_DATAVERSE}/3172584",
                1_403_566_547,
                "md5:da43d6cc50f6613013be07e8986b384b",
                "HAM10000_images_part_2",
                5015,
            ),
        ),
    ),
    "isic2018": OfficialDataset(
        "ISIC 2018 Task 3 (Codella et al. 2019)",
        "CC BY-NC 4.0",
        "https://challenge.isic-archive.com/data/#2018",
        (
            _isic(2018, "ISIC2018_Task3_Training_LesionGroupings.csv", _MB),
            *_isic2018("Training", 10_015, 2_771_732_744, "md5:8302427e4ce0c107559531b9f444abe9"),
            *_isic2018("Validation", 193, 54 * _MB),
            *_isic2018("Test", 1512, 402 * _MB),
        ),
    ),
    "isic2019": OfficialDataset(
        "ISIC 2019 (training set)",
        "CC BY-NC 4.0",
        "https://challenge.isic-archive.com/data/#2019",
        (
            _isic(
                2019,
                "ISIC_2019_Training_GroundTruth.csv",
                1_291_479,
                "md5:2c02bdcc6e7f36d355f4f86b210595ae",
            ),
            _isic(
                2019,
                "ISIC_2019_Training_Metadata.csv",
                1_214_351,
                "md5:8ca5fdef200ffd8579f48c823b504f7e",
            ),
            _isic(
                2019,
                "ISIC_2019_Training_Input.zip",
                9_771_618_190,
                "md5:0ecdc9554ef6273b04e59a0bc420ca9d",
                folder="ISIC_2019_Training_Input",
                images=25_331,
            ),
        ),
    ),
    "isic2020": OfficialDataset(
        "ISIC 2020 (training set; Rotemberg et al. 2021)",
        "CC BY-NC 4.0",
        "https://challenge.isic-archive.com/data/#2020",
        (
            _isic(
                2020,
                "ISIC_2020_Training_GroundTruth_v2.csv",
                2_387_418,
                "sha256:a1c7c97c59e5f49232dfe3b6f6817efaaee5dbf9bcb4ce584c1889e641be5c4e",
            ),
            _isic(
                2020,
                "ISIC_2020_Training_Duplicates.csv",
                11_500,
                "sha256:ddfd6c2d42430bd3581f3b2116bdb1433462a7109c715a02bf7f51115fcfabce",
            ),
            _isic(
                2020,
                "ISIC_2020_Training_JPEG.zip",
                24_707_698_022,
                folder="train",
                images=33_126,
            ),
        ),
    ),
    "isic2024": OfficialDataset(
        "ISIC 2024 (SLICE-3D)",
        "CC BY-NC 4.0",
        "https://www.kaggle.com/competitions/isic-2024-challenge/data",
        by_hand="Kaggle gives it only to members who accepted the competition's rules: log in, "
        "accept them, and fetch train-metadata.csv and train-image.hdf5 (or train-image/), for "
        "example with `kaggle competitions download -c isic-2024-challenge`",
    ),
    "pad_ufes20": OfficialDataset(
        "PAD-UFES-20 (Pacheco et al. 2020)",
        "CC BY 4.0",
        "https://data.mendeley.com/datasets/zr7vgbcyr2/1",
        (
            _pad(
                "metadata.csv",
                "fa850265-57da-48f0-ba3e-998b3e44b1f6",
                316_209,
                "14d145235cedb022548257acb0d84dcd949e2c916f65d2baa7c38ed5339e9527",
            ),
            _pad(
                "imgs_part_1.zip",
                "1cc2f71f-20a2-412d-b746-a9b9bc20c966",
                1_245_184_680,
                "0ab44f60938bf57445e12f518a8878954cc734e6b0aec6d01194e2d26b4b2dca",
                "imgs_part_1",
            ),
            _pad(
                "imgs_part_2.zip",
                "559a60ed-5504-475d-996c-6a8bc253b5e7",
                1_126_646_990,
                "e2d9a3cbd58e823f5ae33163c48643e7d1b54ae3f9e145f01f8e9f16a363a60b",
                "imgs_part_2",
            ),
            _pad(
                "imgs_part_3.zip",
                "34dcdf8e-e5f1-4b35-aa0b-5135051ff852",
                1_220_565_093,
                "ecc4ef10143a43e1d01cb736773148607a78b530417eb76f2c38ad24bf5d0d2c",
                "imgs_part_3",
            ),
        ),
    ),
}
