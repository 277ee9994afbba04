"""The drills: what happens to kderm when things go wrong. `docs/reliability.md` has the figures.

python -m benchmarks.drills                     all of them, some smaller; about half an hour
python -m benchmarks.drills kills --kills 100   one, with its own options
"""

import sys
from collections.abc import Callable, Sequence

from benchmarks.drills import damaged_inputs, kills, reproducibility, stranger_bundles, targets

DRILLS: dict[str, tuple[Callable[[Sequence[str]], int], list[str]]] = {
    "kills": (kills.main, ["--kills", "20"]),
    "damaged": (damaged_inputs.main, ["--images", "260", "--tables", "130"]),
    "targets": (targets.main, []),
    "strangers": (stranger_bundles.main, []),
    "reproducibility": (reproducibility.main, []),
}


def main(words: Sequence[str]) -> int:
    """Run one drill with its options, or all; the number of things that went wrong."""
    if words and words[0] in DRILLS:
        return DRILLS[words[0]][0](words[1:])
    if words:
        print(f"Expected one of {', '.join(DRILLS)}, or nothing. Received: {words[0]}")
        return 2
    wrong = 0
    for name, (drill, smaller) in DRILLS.items():
        print(f"\n## python -m benchmarks.drills {name} {' '.join(smaller)}\n", flush=True)
        wrong += drill(smaller)
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
