"""Every config of the repository: what its head comment must say, and that its parts fit."""

import re
from pathlib import Path

import pytest

from kderm.config.reading import load_config
from kderm.data.datasets import DATASETS
from kderm.errors import UserError
from kderm.models.presets import find_preset
from kderm.training.recipe import check_recipe

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
RECIPES = [path for path in CONFIGS if path.stem != "ham10000_lite0"]


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config_path(request):
    return request.param


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe_path(request):
    return request.param


def head(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines[: next(i for i, x in enumerate(lines) if x[:1] != "#")]]


def refusal(config):
    """Why a config is refused; "" where it is not."""
    try:
        check_recipe(config)
    except UserError as error:
        return str(error)
    return ""


def test_the_seven_recipes_are_there():
    assert {path.stem for path in RECIPES} == {
        "ham10000_b0_robust",
        "ham10000_b3",
        "ham10000_resnet50",
        "isic2018_resnet18",
        "isic2019_challenge",
        "isic2020_b0",
        "isic2020_winner",
    }


def test_the_head_comment_gives_the_command(config_path):
    assert f"#   python run.py cv --config configs/{config_path.name}" in head(config_path)


def test_the_head_comment_says_what_is_reproduced_from_where_and_what_differs(recipe_path):
    text = "\n".join(head(recipe_path))
    for part in ("# Reproduces: ", "# Source: ", "# Deliberately different:\n#   - "):
        assert part in text
    assert re.search(r"folds keep (a|patients and) (lesion|patient)", text)


def test_the_parts_of_the_recipe_fit_each_other(config_path):
    assert refusal(load_config(config_path)) == ""


def test_no_path_of_one_machine_is_written_down(config_path):
    assert not re.search(r"[\s\"'=/]/(work|root|home)/", config_path.read_text(encoding="utf-8"))


def test_the_data_sets_are_known_and_stand_below_one_folder(config_path, monkeypatch):
    monkeypatch.setenv("KDERM_DATA", "elsewhere")
    data = load_config(config_path).data
    for source in data.sources or [data]:
        assert source.dataset in DATASETS
        assert str(source.root).startswith("elsewhere/data/")


def test_the_backbone_has_weights_and_gets_its_native_size(recipe_path):
    config = load_config(recipe_path)
    row = find_preset(config.model.preset)
    assert row.source
    assert config.model.weights == "preset"
    assert config.image.size == row.size
    assert config.image.stored_shape[0] >= config.image.size
