"""What `import kderm` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kderm


def test_importing_kderm_imports_nothing_heavy():
    code = (
        "import sys, kderm\n"
        "heavy = {'keras', 'torch', 'numpy', 'pandas', 'sklearn', 'pydantic', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_data_folds_and_evaluation_need_neither_keras_nor_a_backend():
    code = (
        "import sys, kderm\n"
        "kderm.load_dataset, kderm.make_folds, kderm.evaluate, kderm.load_run, kderm.UserError\n"
        "print(sorted({'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", kderm.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(kderm, name).__doc__
    assert name in dir(kderm)


def test_editors_see_the_names_that_programs_get():
    tree = ast.parse(Path(kderm.__file__).read_text())
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kderm.")
        for alias in node.names
    }
    assert told == kderm._MODULE_OF
    assert sorted(told) == kderm.__all__
    assert (Path(kderm.__file__).parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_such"):
        kderm.nothing_such  # noqa: B018
