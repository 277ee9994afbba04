"""Targets that will not do: disks that are full or read-only, taken folders, a jumping clock, no
home, no network. Each command ends well, or says in one paragraph what is in its way and goes on.

    python -m benchmarks.drills targets

Needs Linux; full disks, read-only mounts and the missing network need root (mount, unshare).
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.drills.remains import contents, damaged, differences, left_behind
from benchmarks.drills.workplace import TINY, Ended, Workplace, table
from kderm.counting import counted

UNSEEN = "runs/_data/demo-unseen-40-seed43/HAM10000_metadata.csv"
CV = ("cv", *TINY)
PREDICT = ("ensemble-predict", UNSEEN, "--out", "out")
# Seconds within which a command must know that there is no network.
QUICKLY = 60
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@dataclass
class Findings:
    """What one drill saw.

    Attributes:
        rows: (what was done, what became of it) for the table.
        wrong: what should not have been.
    """

    rows: list[list[object]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def expect(self, condition: bool, what: str, ended: Ended | None = None) -> None:
        """Note `what` as wrong unless the condition holds."""
        if not condition:
            more = f"\n{(ended.out + ended.err)[-2500:]}" if ended else ""
            self.wrong.append(what + more)

    def refused(self, ended: Ended, what: str, words: str = "") -> None:
        """Expect exit code 2, no traceback, and `words` in the message."""
        plain = ended.code == 2 and not ended.traceback and words in ended.err
        self.expect(plain, f"{what}: expected a refusal with {words!r}, got {ended.code}", ended)

    def finished(self, ended: Ended, what: str) -> None:
        """Expect success without a traceback."""
        self.expect(ended.code == 0 and not ended.traceback, f"{what}: {ended.code}", ended)


# === A disk that is full ===


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: int) -> None:
    """Give the file system another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def disk_full(folder: Path, found: Findings) -> None:
    """Each command on disks that are full at another moment, then with room enough."""
    place = Workplace(folder / "mounted" / "work")
    with small_disk(folder / "mounted", 2**30):
        place.clear()
        needed, expected = [], []
        for words in (("prepare", *TINY), CV, PREDICT):
            found.finished(place.run(words, {"TMPDIR": "/tmp"}), f"undisturbed {words[0]}")
            needed.append(_used(folder / "mounted"))
            expected.append(contents(place.runs) | contents(place.path / "out"))
    floor = 0
    for index, words in enumerate((("prepare", *TINY), CV, PREDICT)):
        refusals = 0
        for share in (0.02, 0.15, 0.3, 0.5, 0.7, 0.9, 0.98):
            size = int(floor + share * (needed[index] - floor))
            with small_disk(folder / "mounted", 2**30):
                place.clear()
                for earlier in (("prepare", *TINY), CV)[:index]:
                    place.run(earlier, {"TMPDIR": "/tmp"})
                resize(folder / "mounted", max(size, _used(folder / "mounted")))
                ended = place.run(words, {"TMPDIR": "/tmp"})
                what = f"{words[0]} on a disk full at {share:.0%}"
                if ended.code:
                    refusals += 1
                    found.refused(ended, what)
                    told = re.search(r"room|No space|disk", ended.err)
                    found.expect(bool(told), f"{what}: does not say so", ended)
                found.wrong += [f"{what}: {line}" for line in damaged(place.path)]
                resize(folder / "mounted", 2**30)
                found.finished(place.run(words, {"TMPDIR": "/tmp"}), f"{what}, with room again")
                after = contents(place.runs) | contents(place.path / "out")
                found.wrong += [f"{what}: {line}" for line in differences(expected[index], after)]
                found.wrong += [f"{what}: left {line}" for line in left_behind(place.path)]
        floor = needed[index]
        found.rows.append(
            [f"disk full at 7 moments of {words[0]}", f"{refusals} refusals, 7 finished after"]
        )


def _used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


# === A disk that cannot be written to ===


def read_only(folder: Path, found: Findings) -> None:
    """Commands in, and about, a run on a read-only file system."""
    mounted = folder / "mounted"
    with small_disk(mounted, 2**30):
        place = Workplace(mounted / "work")
        place.clear()
        found.finished(place.run(CV), "cv before")
        images = place.path / UNSEEN
        elsewhere = Workplace(folder / "elsewhere")
        elsewhere.clear()
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        more = {"HOME": str(elsewhere.home), "TMPDIR": str(elsewhere.temporary)}
        run = str(place.runs / "demo")
        for words in (
            ("prepare", *TINY, "folds.seed=7"),
            (*CV, "--run", "another"),
            CV,
            ("evaluate", "demo"),
            PREDICT,
            ("ensemble-predict", str(images)),
        ):
            found.refused(place.run(words, more), f"{' '.join(words[:3])} on a read-only disk")
        ended = elsewhere.run(("ensemble-predict", str(images), "--run", run, "--out", "out"))
        found.finished(ended, "ensemble-predict from a read-only disk")
        rows = "read-only disk: prepare, cv, evaluate, ensemble-predict into it"
        found.rows += [[rows, "6 refusals"], ["ensemble-predict from it, --out elsewhere", "works"]]


# === Two at once ===


def two_at_once(folder: Path, found: Findings) -> None:
    """A second command in a run or folder that is taken, and after its holder was killed."""
    place = Workplace(folder / "two")
    place.clear()
    lock = place.runs / "demo" / ".lock"
    first = place.start(CV, log=folder / "first.log")
    _wait_for(lambda: lock.exists() and lock.read_text())
    begun = time.monotonic()
    for words in (CV, ("train", "--fold", "1", *TINY)):
        ended = place.run(words)
        found.refused(ended, f"a second {words[0]}", "Another command is writing the run 'demo'")
        found.expect(f"cv, process {first.pid}" in ended.err, "the holder is not named", ended)
    seconds = (time.monotonic() - begun) / 2
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    found.expect(lock.exists(), "the killed cv left no lock file to be in the way")
    found.finished(place.run(CV), "cv after the other was killed")
    found.rows.append(["a second cv, a train, in a taken run", f"refused in {seconds:.0f} s"])
    found.rows.append(["cv with the lock file of a killed one", "works"])
    parent = place.path / "out"
    first = place.start(PREDICT, log=folder / "first.log")
    _wait_for(lambda: (parent / ".lock").exists() and (parent / ".lock").read_text())
    ended = place.run(PREDICT)
    if first.poll() is None or "Another" in ended.err:
        found.refused(ended, "a second ensemble-predict", "Another ensemble-predict is writing")
    found.expect(first.wait() == 0, "the first ensemble-predict failed")
    found.rows.append(["a second ensemble-predict into one folder", "refused"])
    shutil.rmtree(place.runs / "_stores")
    both = [
        place.start(("prepare", *TINY, "--run", f"run_{n}"), log=folder / f"{n}.log")
        for n in range(2)
    ]
    codes = [one.wait() for one in both]
    found.expect(codes == [0, 0], f"two prepare at once ended with {codes}")
    found.rows.append(["two prepare of one data set for two runs", "both finish, one store"])
    found.wrong += [f"two at once: left {line}" for line in left_behind(place.path)]


def _wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the first command did not begin")
        time.sleep(0.02)


# === A clock that jumps ===


def jumping_clock(folder: Path, found: Findings) -> None:
    """`cv` and `ensemble-predict` while the clock jumps by days and years, there and back."""
    if not _FAKETIME.exists():
        found.rows.append(["a clock that jumps", "not drilled: no libfaketime (faketime)"])
        return
    place, offset = Workplace(folder / "clock"), folder / "offset"
    place.clear()
    for words in (CV, PREDICT):
        found.finished(place.run(words), "undisturbed")
    expected = contents(place.path)
    place.clear()
    more = {
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    jumps = ("+0", "-3d", "+20y", "-9y", "+1h", "-1s")
    made = 0
    for words in (CV, PREDICT):
        process = place.start(words, more, log=folder / "clock.log")
        while process.poll() is None:
            offset.write_text(jumps[made % len(jumps)])
            made += 1
            time.sleep(0.5)
        told = (folder / "clock.log").read_text()
        ended = Ended(process.returncode, told, "")
        found.finished(ended, f"{words[0]} under a jumping clock")
    found.wrong += [f"clock: {line}" for line in differences(expected, contents(place.path))]
    found.wrong += [f"clock: left {line}" for line in left_behind(place.path)]
    found.rows.append([f"{made} jumps of the clock (3 days back to 20 years on)", "files equal"])


# === No home ===


def no_home(folder: Path, found: Findings) -> None:
    """`cv` and `ensemble-predict` with a home that is not there, or not to be written to."""
    closed = folder / "closed"
    closed.mkdir(parents=True, exist_ok=True)
    closed.chmod(0o555)
    as_user = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    # May still read what only root may, or it would not find Python.
    rights = "+dac_override,+dac_read_search"
    unknown_user = ("setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups")
    unknown_user += ("--inh-caps", rights, "--ambient-caps", rights)
    cases: dict[str, dict[str, str | None]] = {
        "a home that is not there": {"HOME": "/proc/no/home"},
        "a home without the right to write": {"HOME": str(closed)},
        "no HOME at all": {"HOME": None},
        "a user whom the system does not know": {"HOME": None, "USER": None, "LOGNAME": None},
        "neither home nor temporary folder": {"HOME": str(closed), "TMPDIR": str(closed)},
    }
    for what, more in cases.items():
        place = Workplace(folder / "home")
        place.clear()
        before = () if more["HOME"] is None else as_user
        if "USER" in more:
            before = unknown_user
            subprocess.run(["chmod", "-R", "a+rwX", str(place.path)], check=True)
        lines = 0
        for words in (CV, PREDICT):
            ended = place.run(words, more, before=before)
            found.finished(ended, f"{words[0]} with {what}")
            told = [line for line in ended.err.splitlines() if line and "SYNTHETIC" not in line]
            lines += len(told)
        found.rows.append(
            [what, f"cv and ensemble-predict work, {counted(lines, 'line')} of warning"]
        )
        found.wrong += [f"{what}: left {line}" for line in left_behind(place.path)]


# === No network ===


def no_network(folder: Path, found: Findings) -> None:
    """Commands that want pretrained weights where there is no network."""
    place = Workplace(folder / "network")
    presets = (
        "keras_cv/efficientnetv2_b0_imagenet",
        "keras_hub/efficientnet_b3_ra2_imagenet",
        "keras_applications/efficientnetb0",
    )
    alone = ("unshare", "-n")
    asked = ("cv", "data.demo_images=105", "model.weights=preset", "image.size=64")
    for preset in presets:
        for words in (
            (*asked, f"model.preset={preset}"),
            ("weights", "fetch", preset),
        ):
            place.clear()
            begun = time.monotonic()
            ended = place.run(words, before=alone)
            seconds = time.monotonic() - begun
            found.refused(ended, f"{words[0]} {preset} without a network")
            found.expect(seconds < QUICKLY, f"{words[0]} {preset} took {seconds:.0f} s", ended)
            found.wrong += [f"{words}: left {line}" for line in left_behind(place.path)]
            verb = " ".join(words[: 1 + (words[0] == "weights")])
            found.rows.append([f"no network: {verb}, {preset}", f"refused in {seconds:.0f} s"])
    place.clear()
    found.finished(place.run(CV, before=alone), "cv without weights, without a network")
    found.finished(place.run(PREDICT, before=alone), "ensemble-predict without a network")
    found.rows.append(["no network: cv from scratch, ensemble-predict", "work"])


DRILLS: dict[str, Callable[[Path, Findings], None]] = {
    "disk_full": disk_full,
    "read_only": read_only,
    "two_at_once": two_at_once,
    "clock": jumping_clock,
    "no_home": no_home,
    "no_network": no_network,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drills; the number of things that went wrong."""
    parser = argparse.ArgumentParser(description="targets that will not do")
    parser.add_argument("--only", nargs="+", choices=list(DRILLS))
    parser.add_argument("--folder", type=Path, default=Path("drills"), help="scratch")
    asked = parser.parse_args(arguments)
    rows: list[list[object]] = []
    wrong = 0
    for name in asked.only or DRILLS:
        folder = (asked.folder / "targets" / name).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found = Findings()
        DRILLS[name](folder, found)
        rows += found.rows
        wrong += len(found.wrong)
        for line in found.wrong[:20]:
            print(f"WRONG, {name}: {line}\n", flush=True)
    print(table(["what", "what became of it"], rows))
    return wrong


if __name__ == "__main__":
    raise SystemExit(min(1, main()))
