"""Folds as Ray tasks: as many at a time as a cluster has room for, one display for all.

This process prepares, hands the prepared tables out, and alone writes where the folds lie in the
end. A fold whose worker or node is gone is given to another one, which goes on after the last epoch
that was kept (`kderm.training.attempts`). Whatever ends this process ends the tasks, and everything
stays resumable.
"""

import contextlib
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import kderm
from kderm import console
from kderm.cluster.connection import Cluster, connected, environment
from kderm.cluster.relay import listener
from kderm.cluster.shares import Share, share_of
from kderm.data.prepare import Prepared
from kderm.errors import UserError, first_line
from kderm.run_dir import RunDir
from kderm.storage.mirror import origin_of
from kderm.storage.pixels import keep_pixels
from kderm.storage.places import Place
from kderm.training import attempts
from kderm.training.fold_lock import fold_lock
from kderm.training.launchers.cluster_worker import FoldTask, train_attempt
from kderm.training.launchers.handover import hand_over, pixel_files

# Workers that a fold may lose in a row, without an epoch in between, before it is given up.
_LOSSES = 5
_QUIET = 30.0  # seconds without any task at work before the user is told


def train_on_cluster(
    data: Prepared, run: RunDir, folds: Sequence[int], address: str | None = None
) -> None:
    """Train `folds` on a Ray cluster, each as `train_fold` would alone.

    Args:
        data: the prepared data set.
        run: the run, its config written.
        folds: the folds that are not finished.
        address: see `connected`.

    Raises:
        UserError: no cluster, another command is training one of the folds, or some folds failed;
            told when all the others have ended.
    """
    with contextlib.ExitStack() as locks:
        for fold in folds:
            locks.enter_context(fold_lock(run, fold))
        # One may have been finished while the images were prepared.
        _train_held(data, run, [fold for fold in folds if not run.fold(fold).is_done], address)


def _train_held(data: Prepared, run: RunDir, folds: list[int], address: str | None) -> None:
    """The same of folds whose locks this process holds."""
    if not folds:
        return
    handed = io.BytesIO()
    hand_over(data, handed)
    place = origin_of(run.path)
    for path in pixel_files(data):
        keep_pixels(path, place)
    with connected(address, objects=handed.getbuffer().nbytes) as cluster:
        share = share_of(cluster.nodes(), len(folds))
        console.say(f"{cluster.words}; each fold gets {share.words}, {share.count} at a time")
        with console.progress_of_many() as show:
            folds_there = FoldsThere(cluster, share, run, place, handed.getvalue(), show)
            failed = folds_there.train(folds)
    if failed:
        raise UserError(_told(failed, len(folds)))


@dataclass
class Going:
    """A fold that is being trained.

    Attributes:
        number: the held-out fold.
        attempt: the name of the attempt that counts; what others say is not heard.
        losses: workers lost in a row since the last epoch.
        dead: names of attempts whose worker is gone.
        place: where it trains, for people; "" until it has begun.
        share: what its task asks for.
    """

    number: int
    attempt: str = ""
    attempts: int = 0
    losses: int = 0
    dead: list[str] = field(default_factory=list)
    place: str = ""
    share: Share | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"fold {self.number}"


class FoldsThere:
    """The folds of one run on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        share: Share,
        run: RunDir,
        place: Place,
        handed: bytes,
        show: console.ReportOfMany,
    ) -> None:
        self._cluster, self._ray = cluster, cluster.ray
        self._run, self._place, self._show = run, place, show
        self._listener = listener(cluster)
        self._handed = cluster.ray.put(handed)
        self._config = run.config.read_text(encoding="utf-8")
        taught = run.teacher.is_file()
        self._teacher = run.teacher.read_text(encoding="utf-8") if taught else None
        self._task = cluster.ray.remote(
            max_retries=0,  # another attempt has another name, so this process starts it
            max_calls=1,  # memory and device are the next fold's own
        )(train_attempt)
        self._share = share
        self._going: dict[Any, Going] = {}  # the task's reference -> its fold
        self._counting: dict[str, Going] = {}  # an attempt that is not lost -> its fold
        self._failed: dict[int, str] = {}

    def train(self, folds: Sequence[int]) -> dict[int, str]:
        """Train them; fold -> why, of those that failed."""
        heard = self._listener.take.remote()
        told = looked = time.monotonic()
        try:
            for fold in folds:
                attempts.offer(self._place, self._run, fold)
                self._submit(Going(fold))
            while self._going:
                ready, _ = self._ray.wait([heard, *self._going], timeout=_QUIET)
                if heard in ready:
                    self._hear(self._ray.get(heard))
                    heard = self._listener.take.remote()
                for reference in ready:
                    if reference in self._going:
                        self._end(reference)
                if time.monotonic() - looked > _QUIET:
                    looked = time.monotonic()
                    self._ask_for_less()
                if any(going.place for going in self._going.values()):
                    told = time.monotonic()
                elif time.monotonic() - told > _QUIET:
                    told = time.monotonic()
                    console.warn("no fold is at work: the cluster has no free room at the moment")
            self._hear_the_rest(heard)
        finally:
            for reference in self._going:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)
        return self._failed

    def _submit(self, going: Going) -> None:
        going.attempts += 1
        going.attempt, going.place = attempts.new_name(going.attempts), ""
        self._run.fold(going.number).path.mkdir(parents=True, exist_ok=True)
        task = FoldTask(
            run=self._run.name,
            place=self._place.url,
            fold=going.number,
            attempt=going.attempt,
            config=self._config,
            teacher=self._teacher,
            folder=os.getcwd(),
            kderm=kderm.__version__,
        )
        self._counting[going.attempt] = going
        share = going.share = self._share_now(len(self._going) + 1)
        sized = self._task.options(
            num_cpus=share.cpus, num_gpus=share.gpus, runtime_env=environment(share.threads)
        )
        self._going[sized.remote(task, self._handed, self._listener)] = going

    def _share_now(self, tasks: int) -> Share:
        """The share as before, unless the nodes that could give it are gone; then what others can.

        Cores are not taken for GPUs: nodes with GPUs are waited for.
        """
        nodes = self._cluster.nodes()
        if nodes and not self._share.fits(nodes):
            share = share_of(nodes, tasks)
            if share.gpus == self._share.gpus:
                self._share = share
                console.warn(f"the nodes that are left are smaller; a fold gets {share.words} now")
        return self._share

    def _ask_for_less(self) -> None:
        """Begin anew the tasks that wait for more than any node has, where less would do."""
        nodes = self._cluster.nodes()
        for reference, going in list(self._going.items()):
            if going.place or going.share.fits(nodes):
                continue
            if self._share_now(len(self._going)).fits(nodes):
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)
                del self._going[reference], self._counting[going.attempt]
                self._submit(going)

    def _hear(self, events: list[tuple]) -> None:
        for attempt, kind, *words in events:
            if attempt in self._counting:
                self._pass_on(self._counting[attempt], kind, words)

    def _hear_the_rest(self, heard: Any) -> None:
        """What finished tasks have said and nobody has taken yet."""
        self._listener.tell.remote("", "end")
        while ("", "end") not in (events := self._ray.get(heard)):
            self._hear(events)
            heard = self._listener.take.remote()
        self._hear(events)

    def _pass_on(self, going: Going, kind: str, words: list) -> None:
        if kind == "at":
            what, done, total = words
            if going in self._going.values():
                self._show(going.name, what.removeprefix(going.name).strip(), done, total)
            return
        if kind == "kept":
            going.losses = 0
            attempts.forget_attempts(self._place, self._kept_name(going), going.dead)
            going.dead.clear()
            return
        text = str(words[0])
        if kind == "begun":
            going.place = text
            text = f"{going.name}: on {text}"
        elif not text.startswith(going.name):
            text = f"{going.name}: {text}"
        with open(self._run.fold(going.number).log, "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if kind != "log":
            (console.warn if kind == "warned" else console.say)(text)

    def _end(self, reference: Any) -> None:
        """What became of a task: the fold is finished, failed, or goes on elsewhere."""
        going = self._going.pop(reference)
        self._show(going.name, "", 0, 0)
        try:
            error = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as raised:
            error = f"{type(raised.cause).__name__}: {raised.cause}"
        except self._ray.exceptions.RayError as raised:
            error = self._lost(going, raised)
            if error is None:
                return
        if error is None and not self._publish(going):
            error = "its files are not where the worker kept them"
        if error is not None:
            self._failed[going.number] = error
            console.warn(f"{going.name} failed: {error}")

    def _lost(self, going: Going, raised: Exception) -> str | None:
        """Give the fold of a worker that is gone to another one; why not, or None."""
        why = type(raised).__name__
        if isinstance(raised, self._ray.exceptions.RuntimeEnvSetupError):
            return f"no worker could be started: {first_line(raised)}"
        going.losses += 1
        going.dead.append(going.attempt)
        del self._counting[going.attempt]
        if going.losses >= _LOSSES:
            return f"{going.losses} workers in a row were lost before the end of an epoch ({why})"
        console.warn(f"{going.name}: its worker is gone ({why}); going on elsewhere")
        self._submit(going)
        return None

    def _publish(self, going: Going) -> bool:
        """Bring the finished fold into the run's folder, `done.json` last; forget the attempts."""
        fold, name = self._run.fold(going.number), self._kept_name(going)
        attempts.bring_newest(self._place, name, fold)
        attempts.settle(self._place, self._run, going.number)
        return fold.is_done

    def _kept_name(self, going: Going) -> str:
        return f"{self._run.name}/{self._run.fold(going.number).path.name}"


def _told(failed: dict[int, str], count: int) -> str:
    lines = [f"  fold {fold}: {error}" for fold, error in sorted(failed.items())]
    left = "the others are finished" if len(failed) < count else "none of these is finished"
    return (
        f"{len(failed)} of {count} folds failed; {left}:\n" + "\n".join(lines) + "\nMend the cause "
        "and repeat the command: finished folds are kept, the others go on after their last epoch."
    )
