"""Folds in processes of this machine: so many at a time, one log each, one display for all.

A fold that fails does not take the others with it. Whatever ends this process ends them too, and
everything stays resumable, because a fold's files are whole at any moment.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import kderm
from kderm import console
from kderm.data.prepare import Prepared
from kderm.errors import UserError
from kderm.run_dir import FoldDir, RunDir
from kderm.training.launchers.handover import hand_over
from kderm.training.launchers.shares import Share, share_out

_PATIENCE = 5.0  # seconds for a process to end before it is killed


def train_side_by_side(data: Prepared, run: RunDir, folds: Sequence[int], jobs: int) -> None:
    """Train `folds`, `jobs` at a time, each as `train_fold` would alone.

    Args:
        data: the prepared data set.
        run: the run, its config written.
        folds: the folds that are not finished.
        jobs: processes at a time, at least 1.

    Raises:
        UserError: some folds failed; told when all the others have ended.
    """
    waiting, failed = deque(folds), {}
    idle = share_out(min(jobs, len(folds)))
    running: list[FoldProcess] = []
    with selectors.DefaultSelector() as selector, console.progress_of_many() as show:
        try:
            while waiting or running:
                while waiting and idle:
                    one = FoldProcess(data, run, waiting.popleft(), idle.pop(0))
                    running.append(one)
                    selector.register(one.pipe, selectors.EVENT_READ, one)
                for key, _ in selector.select():
                    one = key.data
                    if one.listen(show):
                        continue
                    selector.unregister(one.pipe)
                    running.remove(one)
                    idle.append(one.share)
                    show(one.name, "", 0, 0)
                    if error := one.outcome():
                        failed[one.fold] = error
                        console.warn(f"{one.name} failed: {error}")
        finally:
            _stop(running)
    if failed:
        raise UserError(_told(failed, run, len(folds)))


class FoldProcess:
    """One fold in a process of its own."""

    def __init__(self, data: Prepared, run: RunDir, fold: int, share: Share) -> None:
        """Start it.

        Args:
            data: the prepared data set.
            run: the run.
            fold: the held-out fold.
            share: its part of the machine.
        """
        self.fold, self.share, self.name = fold, share, f"fold {fold}"
        self.place: FoldDir = run.fold(fold)
        self.error: str | None = None
        self.rest = b""
        self.place.path.mkdir(parents=True, exist_ok=True)
        self.pipe, told = os.pipe()
        # -P: the folder that cv was started in may hold a random.py or another kderm.
        worker = [sys.executable, "-P", "-m", "kderm.training.launchers.worker"]
        with open(self.place.log, "ab") as log:
            begun = time.strftime("%Y-%m-%d %H:%M:%S")
            log.write(f"\n{begun}: {self.name} on {share.words}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*worker, str(run.path), str(fold), str(told)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": _import_path(), **share.environment},
                pass_fds=[told],
                start_new_session=True,  # Ctrl-C is this process's to pass on
            )
        os.close(told)
        console.say(f"{self.name}: on {share.words}, log in {self.place.log}")
        with contextlib.suppress(BrokenPipeError):  # it died at once: `outcome` says so
            hand_over(data, self.process.stdin)

    def listen(self, show: console.ReportOfMany) -> bool:
        """Pass on what the process has to say; False once it has said its last."""
        received = os.read(self.pipe, 1 << 16)
        *lines, self.rest = (self.rest + received).split(b"\n")
        for line in lines:
            kind, *words = json.loads(line)
            if kind == "at":
                what, done, total = words
                show(self.name, what.removeprefix(self.name).strip(), done, total)
            elif kind == "failed":
                self.error = words[0]
            else:
                text = words[0] if words[0].startswith(self.name) else f"{self.name}: {words[0]}"
                (console.say if kind == "said" else console.warn)(text)
        return bool(received)

    def outcome(self) -> str | None:
        """Wait for the end of the process; why it failed, or None."""
        code = self.process.wait()
        self.close()
        if self.error is None and (code or not self.place.is_done):
            ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            hint = " (the machine's memory may have been full)" if code == -signal.SIGKILL else ""
            return f"its process ended with {ended}{hint}"
        return self.error

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self.pipe)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def _import_path() -> str:
    """PYTHONPATH under which the same kderm is found."""
    here = str(Path(kderm.__file__).parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _stop(running: list[FoldProcess]) -> None:
    """End what still runs, by force if need be."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        one.close()


def _told(failed: dict[int, str], run: RunDir, count: int) -> str:
    lines = [
        f"  fold {fold}: {error} (log: {run.fold(fold).log})"
        for fold, error in sorted(failed.items())
    ]
    left = "the others are finished" if len(failed) < count else "none of these is finished"
    return (
        f"{len(failed)} of {count} folds failed; {left}:\n" + "\n".join(lines) + "\nMend the cause "
        "and repeat the command: finished folds are kept, the others go on after their last epoch."
    )
