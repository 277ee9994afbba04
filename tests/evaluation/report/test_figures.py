"""Figures: whole files, one colour a class, no trace in the user's matplotlib."""

from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kderm.evaluation.predictions import make_predictions
from kderm.evaluation.report import figures
from kderm.labels import HAM10000


def predictions(n=70):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.dirichlet(np.ones(7), size=n), columns=HAM10000.columns)
    frame["image_id"] = [f"im{i}" for i in range(n)]
    frame["label"] = [HAM10000.codes[i % 7] for i in range(n)]
    return make_predictions(frame, HAM10000)


PLOTS = [
    figures.plot_roc,
    figures.plot_precision_recall,
    figures.plot_confusion,
    figures.plot_reliability,
]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_figure_is_a_whole_png_and_svg_and_leaves_nothing_else_behind(tmp_path, plot):
    plot(tmp_path / "new" / "figure.png", predictions())
    with Image.open(tmp_path / "new" / "figure.png") as image:
        assert image.format == "PNG"
        assert image.width > 600
        assert np.asarray(image.convert("L")).std() > 5
    assert ElementTree.parse(tmp_path / "new" / "figure.svg").getroot().tag.endswith("}svg")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["figure.png", "figure.svg"]


def test_drawing_leaves_the_users_matplotlib_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    figures.plot_confusion(tmp_path / "figure.png", predictions())
    assert dict(matplotlib.rcParams) == before


def test_the_area_of_a_reliability_point_grows_with_the_images_of_its_bin():
    areas = figures.point_areas(np.array([0, 1, 200, 400]))
    assert areas.tolist() == [areas[0], areas[0], areas[3] / 2, areas[3]]
    assert 0 < areas[0] < areas[3] / 20


def test_twenty_four_classes_are_told_apart():
    styles = [tuple(figures.class_style(j).values()) for j in range(24)]
    assert len(set(styles)) == 24


def test_a_figure_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "figure.png"
    figures.plot_training_curves(path, {0: history()})
    before = path.read_bytes()
    with pytest.raises(KeyError):
        figures.plot_training_curves(path, {0: history().drop(columns="val_loss")})
    assert path.read_bytes() == before


def history():
    return pd.DataFrame(
        {
            "epoch": [1, 2],
            "phase": ["fine_tune"] * 2,
            "loss": [1, 0.5],
            "val_loss": [1, 0.7],
            "val_macro_auc": [0.7, 0.8],
            "chosen": [0, 1],
        }
    )
