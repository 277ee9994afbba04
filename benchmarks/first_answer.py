"""Seconds from the shell to the answer for one image, against `import keras_cv` alone, in turns.

    python benchmarks/first_answer.py RUN IMAGE [--engines keras onnx openvino]

Every command is a process of its own, as from a shell; exports are made before. Printed: medians of
wall and of processor seconds over the rounds, and the share of what the import takes.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent / "run.py"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("image", help="one image")
    parser.add_argument("--engines", nargs="+", default=["keras", "onnx", "openvino"])
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run all in turns, print a Markdown table."""
    arguments = parse()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        commands = {"import keras_cv": [python, "-c", "import keras_cv"]}
        for engine in arguments.engines:
            predict = ["ensemble-predict", arguments.image, "--run", arguments.run]
            asked = [*predict, "--engine", engine, "--out"]
            commands[f"one image, {engine}"] = [python, str(PROGRAM), *asked]
        commands["--help"] = [python, str(PROGRAM), "--help"]
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(arguments.rounds + 1):
            for name, command in commands.items():
                last = [f"{folder}/{name}-{number}"] if command[-1] == "--out" else []
                taken = timed([*command, *last])
                if number:  # the first round exports, compiles and fills the disk's cache
                    times[name].append(taken)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| command | seconds | processor seconds | share of the import |")
    print("|---|---|---|---|")
    first = statistics.median(wall for wall, _ in times["import keras_cv"])
    for name, taken in times.items():
        wall, processor = (statistics.median(values) for values in zip(*taken, strict=True))
        print(f"| {name} | {wall:.2f} | {processor:.2f} | {wall / first:.2f} |")


if __name__ == "__main__":
    main()
