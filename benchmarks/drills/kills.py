"""`kill -9` at random moments of `prepare`, `cv` and `ensemble-predict`, until each has finished.

    python -m benchmarks.drills kills --kills 100

A command is started, killed with its whole process group, and started again in the same way until
it ends by itself. Two moments in three are drawn evenly over the undisturbed command's duration
(imports, decoding, epochs, reports), the third follows the appearance of a file, so that it falls
into a write. After each kill every file under its final name must be readable; at the end every
file must be that of an undisturbed run and nothing temporary may be left: not beside the files, not
in the home, not in TMPDIR.
"""

import argparse
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.drills.remains import contents, damaged, differences, left_behind
from benchmarks.drills.workplace import TINY, Workplace, table

# Share of the kills that aim at a write.
AIMED = 1 / 3
# More starts than this, and the command does not get on.
MOST_STARTS = 60
IMAGES = "runs/_data/demo-unseen-40-seed43/HAM10000_metadata.csv"


@dataclass(frozen=True)
class Verb:
    """A command to be killed.

    Attributes:
        name: for the table.
        words: of the command line.
        needs: what must have finished before, in order; made once.
        share: of all kills.
        beyond: whether its processes outlive their group (cv --jobs), so that two ways to die are
            drilled: all at once, and the first process alone.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()
    share: float = 1.0
    beyond: bool = False


CV = ("cv", *TINY)
VERBS = (
    Verb("prepare", ("prepare", *TINY), share=0.2),
    Verb("cv", CV, share=0.35),
    Verb("cv --jobs 2", (*CV, "--jobs", "2"), share=0.15, beyond=True),
    Verb("ensemble-predict", ("ensemble-predict", IMAGES, "--out", "out"), needs=(CV,), share=0.3),
)


@dataclass
class Outcome:
    """What one verb went through.

    Attributes:
        kills, aimed: how often it was killed, and how often after a file had appeared.
        finished: times it was brought to its end.
        starts: of those, the most starts that one took.
        seconds: of the undisturbed command.
        files: compared each time.
        wrong: what should not have been, in words.
    """

    kills: int = 0
    aimed: int = 0
    finished: int = 0
    starts: int = 0
    seconds: float = 0.0
    files: int = 0
    wrong: list[str] = field(default_factory=list)


def drill(verb: Verb, kills: int, folder: Path, seed: int) -> Outcome:
    """Kill `verb` at least `kills` times, and finish it as often as that takes.

    Args:
        verb: the command.
        kills: how often.
        folder: scratch; the commands see one path there, so that paths in files are equal.
        seed: of the moments.
    """
    rng = random.Random(f"{seed}/{verb.name}")
    here, outcome = Workplace(folder / "work"), Outcome()
    before = _prepared(verb, here, folder / "before")
    begun = time.monotonic()
    _finish(here, verb.words)
    outcome.seconds = time.monotonic() - begun
    expected = contents(here.path)
    outcome.files = len(expected)
    outcome.wrong += [f"undisturbed: {name}" for name in left_behind(here.path)]
    while outcome.kills < kills and not outcome.wrong:
        here.clear(before)
        _until_finished(verb, here, outcome, rng)
        outcome.wrong += differences(expected, contents(here.path))
        outcome.wrong += [f"left behind: {name}" for name in left_behind(here.path)]
        outcome.finished += 1
        print(f"{verb.name}: {outcome.kills} kills, finished {outcome.finished} times", flush=True)
    return outcome


def _prepared(verb: Verb, here: Workplace, kept: Path) -> Path | None:
    """The workplace in which the verb can begin; None for an empty one."""
    here.clear()
    if not verb.needs:
        return None
    for words in verb.needs:
        _finish(here, words)
    ready = Workplace(kept)
    ready.clear(here.path)
    return kept


def _finish(here: Workplace, words: Sequence[str]) -> None:
    ended = here.run(words)
    if ended.code:
        raise SystemExit(f"{' '.join(words)} ended with {ended.code}:\n{ended.err[-3000:]}")


def _until_finished(verb: Verb, here: Workplace, outcome: Outcome, rng: random.Random) -> None:
    log = here.path.with_name("log.txt")
    for start in range(1, MOST_STARTS + 1):
        log.write_bytes(b"")
        process = here.start(verb.words, log=log)
        aimed = rng.random() < AIMED
        moment = rng.uniform(0, outcome.seconds)
        if aimed:
            _wait_for_a_file(process, here.path, moment, rng)
        else:
            _wait(process, moment)
        code = process.poll()
        if code is not None:
            outcome.starts = max(outcome.starts, start)
            if code:
                outcome.wrong.append(f"ended with {code}: {log.read_text()[-2000:]}")
            return
        _kill(process, alone=verb.beyond and rng.random() < 0.5)
        outcome.kills += 1
        outcome.aimed += aimed
        outcome.wrong += [f"after a kill: {name}" for name in damaged(here.path)]
    outcome.wrong.append(f"not finished after {MOST_STARTS} starts")


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _wait_for_a_file(
    process: subprocess.Popen, folder: Path, moment: float, rng: random.Random
) -> None:
    """Until a temporary file appears after `moment` seconds, and up to 20 ms more."""
    _wait(process, moment)
    known = set(left_behind(folder))
    while process.poll() is None:
        if not known.issuperset(left_behind(folder)):
            time.sleep(rng.choice((0.0, rng.uniform(0, 0.02))))
            return
        time.sleep(0.004)


def _kill(process: subprocess.Popen, alone: bool) -> None:
    """End the process group by SIGKILL, and whatever it started elsewhere; or the first alone.

    Folds side by side lead groups of their own. Killed alone, the first process must take them
    along; that is waited for, since nobody repeats a command within the same millisecond.
    """
    children = _descendants(process.pid)
    if not alone:
        for child in children:
            _signal(child)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}/stat").exists() for child in children):
        if time.monotonic() > deadline:
            raise SystemExit(f"processes {children} live on after their parent was killed")
        time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return children + [below for child in children for below in _descendants(child)]


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; the number of things that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("drills"), help="scratch")
    parser.add_argument("--verbs", nargs="+", choices=[verb.name for verb in VERBS])
    asked = parser.parse_args(arguments)
    rows, wrong, total = [], 0, Outcome()
    for verb in VERBS:
        if asked.verbs and verb.name not in asked.verbs:
            continue
        count = round(asked.kills * verb.share)
        found = drill(verb, count, (asked.folder / "kills").resolve(), asked.seed)
        rows.append(
            [
                verb.name,
                found.kills,
                found.aimed,
                found.finished,
                found.starts,
                f"{found.seconds:.1f}",
                found.files,
                len(found.wrong),
            ]
        )
        wrong += len(found.wrong)
        total.kills += found.kills
        for line in found.wrong[:20]:
            print(f"WRONG, {verb.name}: {line}", flush=True)
    header = ["command", "kills", "of them at a write", "finished", "most starts"]
    header += ["undisturbed, s", "files compared", "wrong"]
    print(f"\n{total.kills} kills\n\n{table(header, rows)}")
    return wrong


if __name__ == "__main__":
    raise SystemExit(min(1, main()))
