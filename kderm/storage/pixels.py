"""Image stores that other machines need: kept at a run's URL once, brought to a machine once.

On a disk that all share the pixels are mapped where they are.
"""

import os
from pathlib import Path

from kderm.atomic import locked
from kderm.errors import UserError
from kderm.storage.cache import cache_dir
from kderm.storage.places import Place

STORES = "_stores"
_WHOLE = "meta.json"  # written last, here as in the store itself


def keep_pixels(path: Path, place: Place) -> None:
    """Copy the store that the file `path` belongs to beside the runs at a URL, unless it is there.

    Args:
        path: the pixels of a store on this machine.
        place: where the runs are kept.
    """
    name = f"{STORES}/{path.parent.name}"
    if not place.holds(path) and place.find(f"{name}/{_WHOLE}") is None:
        for file in (path, path.with_name("index.json"), path.with_name(_WHOLE)):
            place.upload(file, f"{name}/{file.name}")


def pixels_here(path: Path, place: Place) -> Path:
    """The same pixels on this machine: where they were, else a copy of those at the URL.

    Raises:
        UserError: neither is there.
    """
    if path.is_file():
        return path
    name = f"{STORES}/{path.parent.name}"
    if not place.holds(path) and place.find(f"{name}/{_WHOLE}") is not None:
        return _brought(place, name, path.name)
    raise UserError(
        f"Expected the decoded images at {path} on every node. Received: a node "
        f"({os.uname().nodename}) that does not see them. Put the runs on a disk that all nodes "
        "share, or at a URL: KDERM_RUNS=s3://BUCKET/FOLDER"
    )


def _brought(place: Place, name: str, file: str) -> Path:
    folder = cache_dir() / "stores" / name.rpartition("/")[2]
    words = f"Another command is copying the images {name}."
    with locked(folder, words, "copying", patient=True):
        for kept in sorted(place.files(name), key=lambda each: each.name.endswith(_WHOLE)):
            target = folder / kept.name.rpartition("/")[2]
            if not target.is_file() or target.stat().st_size != kept.size:
                place.download(kept.name, target)
    return folder / file
