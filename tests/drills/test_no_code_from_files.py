"""Nothing that is read from a file is ever run: what the stranger drill rests on."""

import ast
from pathlib import Path

import pytest

import kderm

PACKAGE = Path(kderm.__file__).parent
# Between the processes of one command, by a pipe or by Ray; see the test below.
BETWEEN_OWN_PROCESSES = {"training/launchers/handover.py"}
RUNNING_CODE = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code"),
}
CALLS = {
    *("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("pd.read_pickle", "pandas.read_pickle", "keras.config.enable_unsafe_deserialization"),
}


def modules():
    return [
        pytest.param(path, id=path.relative_to(PACKAGE).as_posix())
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def name_of(node):
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call, name):
    values = [word.value for word in call.keywords if word.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


@pytest.mark.parametrize("path", modules())
def test_no_module_runs_what_it_reads(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            if path.relative_to(PACKAGE).as_posix() not in BETWEEN_OWN_PROCESSES:
                assert RUNNING_CODE.isdisjoint(name.split(".")[0] for name in names), names
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            assert called not in CALLS, called
            assert keyword(node, "allow_pickle") in (None, False), called
            if called.endswith("load_model"):
                assert keyword(node, "safe_mode") is True, called


def test_what_is_handed_over_by_pickle_comes_from_the_process_that_started_this_one():
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(
            isinstance(node, ast.Call) and name_of(node.func) == "take_over"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert users <= {
        "training/launchers/worker.py",
        "training/launchers/cluster_worker.py",  # the bytes that Ray handed to its actor
    }
    worker = (PACKAGE / "training/launchers/worker.py").read_text(encoding="utf-8")
    assert "take_over(sys.stdin.buffer)" in worker
