"""`export --space`: a folder that is a Hugging Face Space of one ensemble's page.

Holds the page, kderm itself as source (it is on no package index, and a Space installs its
requirements before it sees its files), what is needed to install, and of the bundle what prediction
needs: members, frozen facts, model card and curves. No picture and no id of the data set.
"""

import shutil
from pathlib import Path

import kderm
from kderm.app.about import FIGURES, MODEL_CARD, NOT_A_DEVICE, STORES_NOTHING
from kderm.counting import counted
from kderm.data.preprocess import STEPS
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.errors import UserError
from kderm.leftovers import temporary_beside
from kderm.models.keras_archive import read_config
from kderm.run_dir import RunDir

# As in pyproject.toml, less what only training needs.
REQUIREMENTS = (
    "torch>=2.11,<2.14",
    "keras>=3.12,<4",
    "numpy>=1.26",
    "pandas>=2.2",
    "scikit-learn>=1.5",
    "threadpoolctl>=3",
    "scipy>=1.13",
    "matplotlib>=3.9",
    "click>=8.1",
    "rich>=13.7",
    "pillow>=10.4",
    "h5py>=3.10",
    "pydantic>=2.8",
    "pyyaml>=6.0",
    "gradio>=6.31,<7",
)
_KERAS_CV = ("keras-cv>=0.9,<0.10", "tensorflow-cpu>=2.20")
_KERAS_HUB = ("keras-hub>=0.21", "tensorflow-cpu>=2.20")
_OPENCV = ("opencv-python-headless>=4.9",)
_PYTHON = "3.11"

_APP = '''"""The page of an ensemble, as a Hugging Face Space or by `python app.py`."""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from kderm.app.serving import serve_space  # noqa: E402
from kderm.errors import UserError  # noqa: E402

if __name__ == "__main__":
    try:
        serve_space(Path(__file__).resolve().parent / "bundle")
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
'''
_LARGE_FILES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in ("keras", "npz", "png")
)


def write_space(bundle: Bundle, directory: Path) -> Path:
    """Write the Space of `bundle` to `directory`, whole or not at all.

    Args:
        bundle: the ensemble.
        directory: must not exist, or be empty.

    Returns:
        `directory`.

    Raises:
        UserError: there is something in the folder, or it cannot be written.
    """
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        what = "which holds something" if directory.is_dir() else "a file"
        raise UserError(
            f"Expected a folder that does not exist yet, or an empty one. Received: {directory}, "
            f"{what}. Choose another with --space."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(directory) as folder:
        folder.mkdir()
        (folder / "app.py").write_text(_APP, encoding="utf-8")
        (folder / "requirements.txt").write_text(_requirements(bundle), encoding="utf-8")
        (folder / "README.md").write_text(_card(bundle), encoding="utf-8")
        (folder / ".gitattributes").write_text(_LARGE_FILES, encoding="utf-8")
        _copy_package(folder / "kderm")
        _copy_bundle(bundle, folder / "bundle")
        read_bundle(folder / "bundle")  # every digest is looked at again
        if directory.exists():
            directory.rmdir()
        folder.rename(directory)
    return directory


def requirements(bundle: Bundle) -> list[str]:
    """What has to be installed to answer with `bundle`, as pip takes it."""
    configs = [read_config(path) for path in bundle.member_paths]
    needed = list(REQUIREMENTS)
    for name, packages in (("keras_cv", _KERAS_CV), ("keras_hub", _KERAS_HUB)):
        needed += packages if any(name in config for config in configs) else ()
    if any(STEPS[step].needs_opencv for step in bundle.spec.preprocess):
        needed += _OPENCV
    return list(dict.fromkeys(needed))


def _requirements(bundle: Bundle) -> str:
    return "\n".join(requirements(bundle)) + "\n"


def _copy_package(target: Path) -> None:
    source = Path(kderm.__file__).parent
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))


def _copy_bundle(bundle: Bundle, target: Path) -> None:
    """The files that `read_bundle` asks for, under their names, the model card and curves."""
    target.mkdir()
    run = RunDir(bundle.directory)
    shutil.copyfile(run.bundle, target / run.bundle.name)
    files = bundle.needed_files
    shown = [MODEL_CARD, *(f"{run.figures.name}/{name}.png" for name, _ in FIGURES)]
    files += [name for name in shown if (bundle.directory / name).is_file()]
    for name in files:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.directory / name, place)


def _card(bundle: Bundle) -> str:
    """README.md: the head that a Space is configured by, and what a visitor must know."""
    import gradio

    facts = bundle.facts
    synthetic = (
        "**Synthetic data.** The ensemble learnt from images drawn by a program; its answers say "
        "nothing medical.\n\n"
    ) * facts.synthetic
    classes = "\n".join(
        f"| {code} | {name} | {'malignant' if code in bundle.labels.malignant else ''} |"
        for code, name in zip(bundle.labels.codes, bundle.labels.names, strict=True)
    )
    return f"""---
title: Skin lesions, {facts.run}
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio.__version__}
python_version: "{_PYTHON}"
app_file: app.py
pinned: false
short_description: Research software, no medical device
---

# Skin lesions, {facts.run}

> **{NOT_A_DEVICE.split(". ", 1)[0]}.** {NOT_A_DEVICE.split(". ", 1)[1]}

{synthetic}An ensemble of {counted(len(facts.members), "network")} gives one picture of a lesion a
probability for each of {len(bundle.labels)} classes. Its model card is `bundle/{MODEL_CARD}`, its
measured quality is on the page's last tab.

| class | name | |
| --- | --- | --- |
{classes}

{STORES_NOTHING} On a Space the pictures are sent to the machines of whoever runs it: do not
send pictures of patients there.

## On a machine of your own

```
pip install -r requirements.txt
python app.py
```

What pip takes for `torch` by itself brings CUDA's libraries, some gigabytes; without a GPU install
PyTorch's CPU build first.

Written by kderm {kderm.__version__} from the bundle {bundle.digest[:12]}. Who publishes it
answers for the licence of weights and images: fill it in above as `license:`.
"""
