import pytest
from click.testing import CliRunner

from kderm.cli import main
from kderm.commands.prediction import split_settings
from kderm.errors import UserError


def test_settings_stand_among_the_images():
    words = ["a.jpg", "predict.precision=bfloat16", "folder=x.png", "predict.early_exit=0.02"]
    images, settings = split_settings(words)
    assert images == ["a.jpg", "folder=x.png"]
    assert settings == {"precision": "bfloat16", "early_exit": 0.02}


def test_without_settings_the_bundle_decides():
    assert split_settings(["a.jpg"]) == (["a.jpg"], {})


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("predict.views=d4", "--views"),
        ("predict.calibration=vector", "belongs to cv and evaluate"),
        ("predict.precision=int4", "predict.precision"),
        ("predict.early_exit=2", "predict.early_exit"),
        ("predict.early_exti=0.1", "predict.early_exit"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(word, told):
    with pytest.raises(UserError, match=told):
        split_settings(["a.jpg", word])


def test_settings_alone_are_no_images():
    result = CliRunner().invoke(main, ["ensemble-predict", "predict.early_exit=0.1"])
    assert result.exit_code == 2
    assert "Expected images" in result.output
