"""Bundles from a stranger: each one is refused in one clear sentence, or answers harmlessly.

    python -m benchmarks.drills strangers

A tiny run is trained; each attack of `benchmarks.drills.hostile` changes a copy of it, which is
then asked to predict three images. No code of the bundle may run, nothing may be written outside,
and neither time nor memory may be taken beyond what the good bundle takes, give or take a little.
"""

import argparse
import os
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drills import hostile_files, hostile_members  # noqa: F401 (they fill ATTACKS)
from benchmarks.drills.hostile import ATTACKS
from benchmarks.drills.workplace import TINY, Workplace, table

SECONDS = 30
MEBIBYTES = 700
IMAGES = "runs/_data/demo-unseen-40-seed43/HAM10000_images_part_1"


@dataclass(frozen=True)
class Met:
    """How an attack was met.

    Attributes:
        kind: "refused", "answered", or what went wrong.
        told: the words of the refusal, or the traceback's end.
        seconds, mebibytes: what it took; the peak of memory above what was taken before.
    """

    kind: str
    told: str
    seconds: float = 0.0
    mebibytes: float = 0.0

    @property
    def is_safe(self) -> bool:
        """Whether the user is none the worse."""
        return self.kind in ("refused", "answered")


class TookTooLong(BaseException):
    """Not an Exception, so that nobody takes it for a bad file."""


def meet(name: str, bundle: Path, images: Path, scratch: Path) -> Met:
    """Make the attack `name` on a copy of `bundle`, and predict `images` with it.

    Args:
        name: key of `ATTACKS`.
        bundle: folder of a good bundle.
        images: a folder of a few images.
        scratch: an empty folder, emptied again.
    """
    folder, canary = scratch / "bundle", scratch / "canary"
    shutil.copytree(bundle, folder)
    ATTACKS[name][1](folder, canary)
    outside = _listing(scratch, folder)
    before = _peak_memory(reset=True)
    begun = time.monotonic()
    try:
        kind, told = _predict(folder, images, scratch / "out")
    finally:
        seconds = time.monotonic() - begun
        mebibytes = (_peak_memory() - before) / 2**20
    strangers = _listing(scratch, folder, scratch / "out") - outside
    shutil.rmtree(scratch)
    if canary.name in {Path(path).name for path in strangers}:
        kind, told = "CODE RAN", told
    elif strangers:
        kind, told = "WROTE OUTSIDE", f"{sorted(strangers)}"
    elif mebibytes > MEBIBYTES:
        kind, told = f"TOOK {mebibytes:,.0f} MiB", told
    return Met(kind, told, seconds, mebibytes)


def _predict(folder: Path, images: Path, out: Path) -> tuple[str, str]:
    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.inputs import find_inputs
    from kderm.ensemble.predictor import ensemble_predict
    from kderm.errors import UserError

    def stop(*_: object) -> None:
        raise TookTooLong

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        bundle = read_bundle(folder)
        summary = ensemble_predict(bundle, find_inputs([str(images)], bundle.labels), out)
        return "answered", str(summary)
    except UserError as error:
        return "refused", str(error)
    except TookTooLong:
        return f"TOOK MORE THAN {SECONDS} s", traceback.format_exc()[-1500:]
    except Exception:
        return "TRACEBACK", traceback.format_exc()[-1500:]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _listing(folder: Path, *without: Path) -> set[str]:
    return {
        os.path.join(root, name)
        for root, _, files in os.walk(folder)
        if not any(Path(root).is_relative_to(other) for other in without)
        for name in files
    }


def _peak_memory(reset: bool = False) -> int:
    """Bytes of this process at its peak; with `reset` now, and the peak begins anew."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    words = next(line for line in lines if line.startswith("VmHWM")).split()
    return int(words[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; the number of attacks that were not met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("drills"), help="scratch")
    parser.add_argument("--only", help="attacks whose name has this in it")
    parser.add_argument("--show", action="store_true", help="print every refusal")
    asked = parser.parse_args(arguments)
    place = Workplace((asked.folder / "strangers" / "good").resolve())
    if not (place.runs / "demo" / "unlike.npz").is_file():
        place.clear()
        ended = place.run(("cv", *TINY))
        if ended.code:
            raise SystemExit(ended.err)
    images = place.path / "three"
    images.mkdir(exist_ok=True)
    for path in sorted((place.path / IMAGES).iterdir())[:3]:
        shutil.copyfile(path, images / path.name)
    scratch = place.path.with_name("scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    good = Met(*_predict(place.runs / "demo", images, place.path / "out"))
    if good.kind != "answered":
        raise SystemExit(good.told)
    met: dict[str, Met] = {}
    for name in ATTACKS:
        if asked.only and asked.only not in name:
            continue
        met[name] = one = meet(name, place.runs / "demo", images, scratch)
        if asked.show or not one.is_safe:
            print(f"{name}: {one.kind}, {one.seconds:.1f} s: {one.told}\n", flush=True)
    print(summary_table(met))
    return sum(not one.is_safe for one in met.values())


def summary_table(met: dict[str, Met]) -> str:
    """A row a group of attacks."""
    rows = []
    for group in dict.fromkeys(group for group, _ in ATTACKS.values()):
        of_group = [one for name, one in met.items() if ATTACKS[name][0] == group]
        if not of_group:
            continue
        kinds = Counter(one.kind if one.is_safe else "wrong" for one in of_group)
        seconds = max(one.seconds for one in of_group)
        memory = max(one.mebibytes for one in of_group)
        counts = [kinds[kind] for kind in ("refused", "answered", "wrong")]
        rows.append([group, len(of_group), *counts, f"{seconds:.1f}", f"{memory:.0f}"])
    header = ["what was changed", "bundles", "refused", "answered", "wrong"]
    return table([*header, "longest, s", "most memory, MiB"], rows)


if __name__ == "__main__":
    raise SystemExit(min(1, main()))
