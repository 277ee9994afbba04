"""A fitted ensemble as bytes: what a pickled estimator holds, and nothing else.

The files of a bundle, as `export` or `cp` would take them: JSON, arrays and Keras archives, each
checked by its digest and opened in Keras' safe mode when it is used. No object of Keras or torch
and no code goes into a pickle. What does go in is personal where the ids are: oof.csv, which tells
images that were trained on from others, has the id, the group, the label and the answers of each.
"""

import contextlib
import tempfile
import weakref
from pathlib import Path
from typing import Any

from kderm.api.loaded import LoadedEnsemble
from kderm.ensemble.bundle import Bundle, read_bundle
from kderm.leftovers import temporary_beside


class PackedEnsemble:
    """The files of a bundle in memory, unpacked into a temporary folder when first asked."""

    def __init__(self, bundle: Bundle) -> None:
        """Args:
        bundle: on disk, which may go away afterwards.
        """
        names = ["ensemble.json", *bundle.needed_files]
        if (bundle.directory / "oof.csv").is_file():
            names.append("oof.csv")  # tells which images were trained on
        self.files = {name: (bundle.directory / name).read_bytes() for name in names}
        self._loaded: LoadedEnsemble | None = None

    def ensemble(self) -> LoadedEnsemble:
        """The ensemble, loaded at the first call."""
        if self._loaded is None:
            held = contextlib.ExitStack()
            place = Path(tempfile.gettempdir()) / "kderm-ensemble"
            folder = held.enter_context(temporary_beside(place))
            weakref.finalize(self, held.close)
            folder.mkdir(mode=0o700)
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._loaded = LoadedEnsemble(read_bundle(folder))
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.files = state["files"]
        self._loaded = None
