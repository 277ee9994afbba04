"""A folder of its own for a command of kderm: current folder, runs, home and temporary files.

The ground that every drill stands on. Nothing outside of the folder is written, so whatever lies in
it afterwards was left by the commands.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Seconds a command, and all that a run has: folds, epochs, checkpoints, views.
TINY = (
    "data.demo_images=105",
    "data.demo_size=40",
    "folds.k=3",
    "image.size=32",
    "model.preset=kderm/small_cnn",
    "train.epochs=3",
    "train.batch_size=16",
)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        """Whether the user saw a traceback."""
        return "Traceback (most recent call last)" in self.out + self.err


@dataclass(frozen=True)
class Workplace:
    """The folder."""

    path: Path

    @property
    def runs(self) -> Path:
        """Where runs go."""
        return self.path / "runs"

    @property
    def home(self) -> Path:
        """The user's home, with the caches."""
        return self.path / "home"

    @property
    def temporary(self) -> Path:
        """TMPDIR."""
        return self.path / "tmp"

    def clear(self, source: Path | None = None) -> None:
        """Begin anew, empty or as a copy of `source` with the times of its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        if source is not None:
            shutil.copytree(source, self.path, symlinks=True)
        for folder in (self.home, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)

    def environment(self, more: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """The variables of a command here; `more` replaces some, None takes one away."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KDERM_", "XDG_", "PYTEST_")) and name != "MPLCONFIGDIR"
        }
        own: dict[str, str | None] = {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "PYTHONPATH": str(REPOSITORY),
            **(more or {}),
        }
        return {name: value for name, value in {**kept, **own}.items() if value is not None}

    def start(
        self,
        words: Sequence[str],
        more: Mapping[str, str | None] | None = None,
        *,
        before: Sequence[str] = (),
        log: Path | None = None,
    ) -> subprocess.Popen:
        """Start a verb of kderm in a process group of its own.

        Args:
            words: the verb and what follows it.
            more: variables, see `environment`.
            before: a command that the verb is run under, such as `setpriv ...`.
            log: where its output goes; None: pipes.
        """
        told = subprocess.PIPE if log is None else open(log, "ab")  # noqa: SIM115
        try:
            return subprocess.Popen(
                [*before, sys.executable, str(REPOSITORY / "run.py"), *map(str, words)],
                cwd=self.path,
                env=self.environment(more),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        finally:
            if log is not None:
                told.close()

    def run(
        self,
        words: Sequence[str],
        more: Mapping[str, str | None] | None = None,
        *,
        before: Sequence[str] = (),
        seconds: float = 900,
    ) -> Ended:
        """Run a verb to its end."""
        process = self.start(words, more, before=before)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            err += f"\nthe drill's limit of {seconds:.0f} s was passed".encode()
        return Ended(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
