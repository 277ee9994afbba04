"""`inspect` end to end: what is written, and that each trap of a data set is told."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.config.reading import load_config
from kderm.data import preprocess
from kderm.data.datasets.demo import write_demo
from kderm.data.folds import read_duplicates
from kderm.errors import UserError
from kderm.inspection import figures
from kderm.inspection.pages import inspect_data

TINY = ["image.size=32", "image.stored_height=40"]
TABLES = ["associations", "classes", "columns", "duplicates", "missing", "pairs", "quality"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """84 drawn images in HAM10000's layout."""
    root = tmp_path_factory.mktemp("drawn") / "data"
    write_demo(root, 84, height=40)
    return root


@pytest.fixture
def charts():
    """Asked for by the tests that look at the charts."""


@pytest.fixture(autouse=True)
def _blank_charts(request, monkeypatch):
    """Drawing is what takes the time: elsewhere a chart is one grey pixel."""
    if "charts" in request.fixturenames:
        return

    def blank(path, height, chart):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1), 128).save(path)
        return path, path

    monkeypatch.setattr(figures, "draw", blank)


@pytest.fixture
def ham(drawn, workplace):
    """A copy of them that a test may spoil."""
    return Path(shutil.copytree(drawn, workplace / "ham"))


def inspected(root, *overrides, dataset="ham10000", out="pages"):
    config = load_config(None, [f"data.dataset={dataset}", f"data.root={root}", *TINY, *overrides])
    told = inspect_data(config, Path(out))
    return told, Path(out, "index.html").read_text()


def metadata(root):
    return pd.read_csv(root / "HAM10000_metadata.csv", dtype=str, keep_default_na=False)


def write_metadata(root, table):
    table.to_csv(root / "HAM10000_metadata.csv", index=False)


def picture(root, image_id):
    return next(root.rglob(f"{image_id}.jpg"))


def repaint(root, change):
    for path in root.rglob("*.jpg"):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        Image.fromarray(np.ascontiguousarray(change(pixels))).save(path, quality=95)


def test_pages_figures_and_tables_are_written_and_folds_are_not(ham, charts):
    told, page = inspected(ham)
    assert told.splitlines()[0].startswith("ham10000, ham: 84 images (akiec ")
    assert "<title>ham10000, ham</title>" in page
    assert told.count("independent groups:") == 1
    assert "Fewer than 25 independent groups: akiec (" in told
    assert told.splitlines()[-1] == f"Open {Path('pages/index.html')}"
    assert sorted(path.stem for path in Path("pages").glob("*.csv")) == TABLES
    charts = {path.stem for path in Path("pages/figures").glob("*.png")}
    named = {"classes", "lesions", "age", "sex", "site", "sharpness", "brightness", "redness"}
    assert named <= charts
    assert {f"{name}_dark" for name in named} <= charts
    assert "http" not in page.replace('<meta http-equiv="', "")
    for heading in ("Classes", "Examples", "Image quality", "Preprocessing", "Leaking columns"):
        assert f"<h2>{heading}</h2>" in page
    assert not Path("cv_folds").exists()


def test_the_tables_hold_the_data_sets_numbers(ham):
    inspected(ham)
    table = metadata(ham)
    classes = pd.read_csv("pages/classes.csv").set_index("class")
    counts = table["dx"].value_counts()
    assert classes["images"].to_dict() == counts.reindex(classes.index).to_dict()
    assert classes["lesions"].sum() == table["lesion_id"].nunique()
    assert classes.index[classes["malignant"]].tolist() == ["akiec", "bcc", "mel"]
    quality = pd.read_csv("pages/quality.csv")
    assert set(quality["image_id"]) == set(table["image_id"])
    assert (quality["height"] == 40).all()
    assert quality["is_dark_corners"].equals(quality["dark_corners"] >= 0.5)
    missing = pd.read_csv("pages/missing.csv").set_index("column")
    assert missing.loc["sex", "all"] == pytest.approx((table["sex"] == "unknown").mean())


def test_the_same_config_writes_the_same_page(ham):
    _, first = inspected(ham)
    _, second = inspected(ham, out="again")
    assert first == second


def test_a_copy_under_another_lesion_id_is_told_and_can_be_listed(ham):
    table = metadata(ham)
    table["lesion_id"] = [f"own_{row}" for row in range(len(table))]
    write_metadata(ham, table)
    same = table[table["dx"] == "nv"]["image_id"].tolist()[:2]
    shutil.copy(picture(ham, same[0]), picture(ham, same[1]))
    told, page = inspected(ham)
    assert "of them lie in different groups" in told
    assert "Pairs in different groups" in page
    pairs = read_duplicates(Path("pages/duplicates.csv"))
    assert {tuple(sorted(pair)) for pair in pairs} >= {tuple(sorted(same))}
    told, page = inspected(ham, "data.duplicates=pages/duplicates.csv", out="listed")
    assert "0 of them lie in different groups" in told
    assert "Pairs in different groups" not in page


def test_a_picture_with_two_labels_is_told(ham):
    table = metadata(ham)
    first, second = (table[table["dx"] == code]["image_id"].iloc[0] for code in ("nv", "mel"))
    shutil.copy(picture(ham, first), picture(ham, second))
    told, page = inspected(ham)
    assert "!! Pairs of the same picture with different labels: 1." in told
    assert "Different labels" in page


def test_swapped_channels_are_told(ham):
    told, _ = inspected(ham)
    assert "swapped" not in told
    repaint(ham, lambda pixels: pixels[..., ::-1])
    told, _ = inspected(ham)
    assert "!! " in told
    assert "red and blue look swapped" in told


def test_a_sign_that_goes_with_the_class_is_told(ham):
    table = metadata(ham)
    for image_id in table[table["dx"] == "mel"]["image_id"]:
        path = picture(ham, image_id)
        with Image.open(path) as image:
            dark = (np.asarray(image) * 0.15).astype(np.uint8)
        Image.fromarray(dark).save(path)
    told, _ = inspected(ham)
    assert '"too dark"' in told
    assert "a member may learn it in place of the lesion" in told


def test_a_column_that_tells_the_class_is_told(ham):
    table = metadata(ham)
    table["camera"] = "no " + table["dx"].astype("category").cat.codes.astype(str)
    write_metadata(ham, table)
    told, _ = inspected(ham)
    assert "The column camera of HAM10000_metadata.csv nearly determines the class" in told
    assert "Not to be used as metadata, in HAM10000_metadata.csv: dx, lesion_id, dx_type." in told


def test_bad_rows_and_unreadable_files_are_told_and_the_rest_is_shown(ham):
    table = metadata(ham)
    table.loc[3, "dx"] = "wart"
    write_metadata(ham, table)
    picture(ham, table["image_id"][5]).write_bytes(b"\xff\xd8 cut")
    told, page = inspected(ham)
    assert "82 images" in told.splitlines()[0]
    assert "Problems in the table, which prepare refuses: 1. unknown label" in told
    assert "Left out" in told
    assert "wart" in page


def test_preprocessing_is_shown_and_the_one_in_use_named(ham):
    _, page = inspected(ham, "image.preprocess=[border_crop, shades_of_gray]")
    assert "the config uses border_crop, shades_of_gray" in page
    assert "border_crop + shades_of_gray</figcaption>" in page
    assert page.count("<figcaption>before") == 6


def test_without_opencv_the_pages_say_what_is_not_shown(ham, monkeypatch):
    monkeypatch.setattr(preprocess, "_import_opencv", lambda: None)
    _, page = inspected(ham)
    assert "hair_removal, clahe not shown: pip install" in page
    assert "Hair was not looked for" in page
    assert "border_crop</figcaption>" in page


def test_class_folders_without_any_table_are_shown(ham, workplace):
    for row in metadata(ham).itertuples():
        target = workplace / "folders" / row.dx / f"{row.image_id}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(picture(ham, row.image_id), target)
    told, page = inspected(workplace / "folders", dataset="class_folders")
    assert "leakage between folds cannot be ruled out" in told
    assert "tells no age, sex or site" in page
    assert "There is no table with columns to look at" in page


def test_joined_sources_are_told_apart(ham, drawn):
    repaint(ham, lambda pixels: pixels[::-1, :, ::-1])
    sources = (
        f"data.sources=[{{dataset: ham10000, root: {drawn}, name: old}}, "
        f"{{dataset: ham10000, root: {ham}, name: new}}]"
    )
    told = inspect_data(load_config(None, [sources, *TINY]), Path("pages"))
    assert told.startswith("old + new: 168 images")
    assert "of new are bluer than red" in told
    classes = pd.read_csv("pages/classes.csv")
    assert classes["from old"].sum() == classes["from new"].sum() == 84
    assert "old/HAM10000_metadata.csv" in set(pd.read_csv("pages/columns.csv")["table"])


def test_a_demo_says_that_it_is_synthetic(workplace):
    config = load_config(None, ["data.demo_images=70", "data.demo_size=40", *TINY])
    told = inspect_data(config, Path("pages"))
    assert "SYNTHETIC" in told
    assert "drawn by a program" in Path("pages/index.html").read_text()


def test_a_data_set_without_a_usable_image_is_refused_and_nothing_is_written(ham):
    table = metadata(ham)
    table["dx"] = "wart"
    write_metadata(ham, table)
    with pytest.raises(UserError, match="at least one image"):
        inspected(ham)
    assert not Path("pages").exists()
