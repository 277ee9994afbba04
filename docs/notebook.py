"""Writes tutorial.ipynb from tutorial.md, the one source of both: `python docs/notebook.py`.

Python blocks become cells of code, the words between them cells of text. Needs nothing but Python;
tests/docs/test_tutorial.py fails while the two differ, and runs the cells.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE, NOTEBOOK = HERE / "tutorial.md", HERE / "tutorial.ipynb"
_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def main() -> None:
    """Write the notebook."""
    NOTEBOOK.write_text(notebook_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def notebook_text(page: str) -> str:
    """The notebook, as JSON, that says what the Markdown `page` says."""
    cells, end = [], 0
    for block in _BLOCK.finditer(page):
        cells += [_cell("markdown", page[end : block.start()]), _cell("code", block[1])]
        end = block.end()
    cells.append(_cell("markdown", page[end:]))
    cells = [cell for cell in cells if cell["source"]]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:02d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _cell(kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "metadata": {}, "source": text.strip("\n").splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    main()
