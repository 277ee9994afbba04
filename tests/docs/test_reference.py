"""The reference pages are what the program says of itself now."""

import importlib.util
from pathlib import Path

import pytest

from kderm.cli import main
from kderm.config.schema import Config

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("generate", REFERENCE / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["commands.md", "options.md", "python.md"])
def test_a_page_is_what_would_be_written_now(pages, name):
    assert (REFERENCE / name).read_text() == pages[name], "run: python docs/reference/generate.py"


def test_no_page_lies_there_that_is_not_written(pages):
    assert {path.name for path in REFERENCE.glob("*.md")} == set(pages)


def test_every_verb_and_every_option_has_its_row(pages):
    for name, command in main.commands.items():
        assert f"\n## {name}\n" in pages["commands.md"]
        for option in command.params:
            if option.param_type_name == "option":
                assert f"`{option.opts[0]}`" in pages["commands.md"]


def test_every_field_of_the_config_has_its_row_with_a_description(pages):
    for section, values in Config().model_dump().items():
        for key in values if isinstance(values, dict) else [None]:
            name = section if key is None else f"{section}.{key}"
            (row,) = (line for line in pages["options.md"].splitlines() if f"| `{name}` |" in line)
            assert len(row.split(" | ")) == 5
            assert len(row.rsplit(" | ", 1)[1]) > 5
