import ast
from pathlib import Path

import kderm

PACKAGE = Path(kderm.__file__).parent

# Left never imports right (docs/architecture.md).
ROOMS = [
    {
        *("errors", "atomic", "labels", "label_spaces", "label_maps", "run_dir", "runtime"),
        *("console", "download", "unpack", "leftovers", "html_page", "plainly", "counting"),
        *("font_list", "cluster", "storage"),
    },
    {"config"},
    {"data", "evaluation"},
    {"models"},
    {"training", "ensemble", "explain", "inspection", "doctor"},
    {"api"},
    {"app"},
    {"commands"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def imports(path):
    """Names of everything that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    parts = name.split(".")
    return parts[1] if parts[0] == "kderm" and len(parts) > 1 and parts[1] in RANK else None


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_rooms_import_only_leftwards():
    wrong = []
    for path, room in modules():
        if room == "__init__":
            continue
        for target in {room_of(name) for name in imports(path)} - {None, room}:
            beside = RANK[target] == RANK[room] and RANK[room] > 0
            if RANK[target] > RANK[room] or beside:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {target}")
    assert wrong == []


def test_every_module_belongs_to_a_room():
    assert {room for _, room in modules()} - {"__init__"} == set(RANK)


def test_evaluation_never_imports_keras_or_a_backend():
    heavy = {"keras", "torch", "tensorflow", "jax", "keras_cv", "keras_hub"}
    for path in (PACKAGE / "evaluation").rglob("*.py"):
        assert heavy.isdisjoint(name.split(".")[0] for name in imports(path)), path
