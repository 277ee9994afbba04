"""The process of one fold: `python -m kderm.training.launchers.worker RUN FOLD PIPE`.

Started by `kderm.training.launchers.processes`, which hands the prepared data over on standard
input and keeps that open: when it ends, the other process is gone, and this one goes too. What is
printed lands in the fold's log; the same is told, a JSON line each, to the file descriptor PIPE.
"""

import json
import os
import sys
import threading
import traceback
from pathlib import Path

from kderm import console
from kderm.config.reading import load_config
from kderm.errors import UserError, reason_of
from kderm.leftovers import own_temporary_files
from kderm.run_dir import RunDir
from kderm.runtime import check_backend, keep_freed_memory
from kderm.training.attempts import kept
from kderm.training.fold_lock import fold_lock
from kderm.training.launchers.handover import take_over


def main(run: RunDir, fold: int, pipe: int) -> int:
    """Train one fold; the exit code."""
    with own_temporary_files(), os.fdopen(pipe, "w", buffering=1) as told:

        def tell(*event: object) -> None:
            told.write(json.dumps(event) + "\n")

        console.forward_to(tell)
        try:
            data = take_over(sys.stdin.buffer)
            threading.Thread(target=_end_with_parent, daemon=True).start()
            check_backend()
            from kderm.training.fold import train_fold

            keep_freed_memory()
            with fold_lock(run, fold), kept(run, fold) as after_epoch:
                train_fold(load_config(run.config), data, run, fold, after_epoch=after_epoch)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            tell("failed", str(error))
            return 2
        except Exception as error:
            traceback.print_exc()
            tell("failed", reason_of(error))
            return 1
    return 0


def _end_with_parent() -> None:
    # Not through sys.stdin: at its end the interpreter would wait for that buffer's lock.
    while os.read(0, 1):
        pass
    os._exit(1)  # as after a kill, everything on the disk is whole


if __name__ == "__main__":
    sys.exit(main(RunDir(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])))
