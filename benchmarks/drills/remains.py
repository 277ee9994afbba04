"""What lies on the disk after a command: is every file whole, and was nothing left behind?

Reads files only; what it finds is told in words. Two runs are compared by `contents`.
"""

import csv
import hashlib
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

# Names of files that are being written, by kderm and by the libraries under it.
_UNFINISHED = re.compile(
    r"\.tmp(\.|$)|\.tmp[^/]*$|^tmp[a-z0-9_]{8}$|\.lock$|-lock$|^cc[A-Za-z0-9]{6}"
)
# A store in the making is a log and pixels; a finished one has neither the log nor holes.
_PROGRESS = "progress.jsonl"
# A lock file is empty or says who held it last; the kernel frees it with its process.
_LOCK = ".lock"
# Seconds differ between any two runs.
_SECONDS = "seconds"


def left_behind(folder: Path) -> list[str]:
    """Temporary files and folders anywhere below `folder`, and stores that are half made."""
    found = []
    for root, folders, files in os.walk(folder):  # folders may vanish meanwhile
        for name in (*folders, *files):
            unfinished = _UNFINISHED.search(name) and name != _LOCK
            log = name == _PROGRESS and Path(root, "meta.json").exists()
            if unfinished or log or name == ".parts":
                found.append(Path(root, name).relative_to(folder).as_posix())
    return sorted(found)


def damaged(folder: Path) -> list[str]:
    """Files under their final names that cannot be read whole, with the reason."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or _UNFINISHED.search(path.name) or "/.parts/" in f"/{name}":
            continue
        if any(part.endswith(".tmp") for part in path.relative_to(folder).parts):
            continue
        try:
            _read_whole(path)
        except Exception as error:  # whatever a reader says of a damaged file
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found


def _read_whole(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif suffix == ".csv":
        text = path.read_text(encoding="utf-8")
        lengths = {len(row) for row in csv.reader(io.StringIO(text)) if not row[0].startswith("#")}
        if not text.endswith("\n") or len(lengths) != 1:
            raise ValueError(f"rows of {sorted(lengths)} cells, last byte {text[-1:]!r}")
    elif suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            for key in stored.files:
                stored[key]
    elif suffix in (".keras", ".zip"):
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                raise ValueError(f"{bad} is damaged")
    elif suffix in (".jpg", ".jpeg", ".png"):
        with Image.open(path) as image:
            image.load()
    elif suffix == ".html" and not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("no end")
    elif suffix in (".md", ".yaml", ".so") and not path.stat().st_size:
        raise ValueError("empty")


def contents(folder: Path) -> dict[str, str]:
    """Every file below `folder` to the SHA-256 of what must be equal in two runs of one command.

    Left out: locks, logs, what other libraries keep in the home, and the numbers that tell seconds
    or a file's time.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        of_a_library = name.startswith("home/.cache/matplotlib") or name.startswith("home/.keras")
        if not path.is_file() or path.name in (_LOCK, "log.txt") or of_a_library:
            continue
        found[_of_any_store(name)] = hashlib.sha256(_settled(path)).hexdigest()
    return found


def _of_any_store(name: str) -> str:
    """A store's folder is named after the times of its images, too."""
    return re.sub(r"^(.*_stores)/[0-9a-f]{16}/", r"\1/*/", name)


def _settled(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "history.csv":
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        return repr([{k: v for k, v in row.items() if k != _SECONDS} for row in rows]).encode()
    if path.name == "done.json":
        return repr({k: v for k, v in json.loads(data).items() if k != _SECONDS}).encode()
    if path.name in ("store.json", "meta.json"):
        return repr({k: v for k, v in json.loads(data).items() if k != "digest"}).encode()
    if path.name in ("report.md", "report.html", "MODEL_CARD.md", "CHECKLIST.md"):
        return re.sub(rb"[\d.]+ min\b", b"", data)
    return data


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """In words, what `found` has otherwise than `expected`."""
    missing = [f"{name}: missing" for name in expected if name not in found]
    more = [f"{name}: not in the undisturbed run" for name in found if name not in expected]
    other = [
        f"{name}: other content"
        for name in expected
        if name in found and expected[name] != found[name]
    ]
    return missing + more + other
