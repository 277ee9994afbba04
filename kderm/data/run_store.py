"""The image store that a run began with, wherever it lies now.

For whatever looks at a run's pictures after training: activation maps, the search for overlap.
"""

import json
import re

from kderm.data.images import ImageSpec
from kderm.data.store import ImageStore
from kderm.errors import UserError
from kderm.run_dir import RunDir, runs_root, store_dir


def open_run_store(run: RunDir, spec: ImageSpec) -> ImageStore | None:
    """The run's store, from `runs/` or from beside the run's folder; None where it is gone.

    Args:
        run: the run; it may have been moved, together with the folder of stores or alone.
        spec: the frame that is expected; a store of another one is not given.
    """
    try:
        digest = json.loads(run.store.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not re.fullmatch("[0-9a-f]{64}", str(digest)):  # it becomes part of a path
        return None
    shared = store_dir(digest)
    for directory in (shared, run.path.parent / shared.relative_to(runs_root())):
        try:
            store = ImageStore.open(directory)
        except UserError:
            continue
        if (store.digest, store.spec) == (digest, spec):
            return store
    return None
