"""Memory, processor time and throughput of `ensemble-predict --launcher ray` as images grow.

    python benchmarks/cluster_scaling.py --rows 10000 40000 100000 400000
    python benchmarks/cluster_scaling.py --rows 40000 --workers 1 2

A Ray cluster of several raylets on this machine: a head without cores, which the command runs on,
and one node of one core a worker. Images and ensemble are those of `scaling.py`: 32 px JPEGs, a few
hundred different ones under hard links, a network of one convolution, two members, one view.

Printed for each number of images: wall seconds, processor seconds of the driver, of Ray's workers
(the actors, and those that Ray starts ahead and keeps idle) and of Ray's own processes, and the
peaks of the memory that they own (RssAnon): of the driver, of the largest worker (an actor), of all
workers together. The memory that Ray's object store shares is bounded when a node starts (here
100 MB each). Beside it, whether predictions.csv has each image once.

Needs Linux (/proc), about 1.5 kB a row on the disk and inodes for the files.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from scaling import commands, make_backbone, make_data_set, make_pictures, measure

TICKS = os.sysconf("SC_CLK_TCK")
STORE = 100 * 2**20


def start_cluster(folder, workers):
    """Raylets on this machine: a head without cores, a node of one core a worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Else workers wait for every other process.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["OMP_NUM_THREADS"] = "1"
    # Where Ray notes the address of what it started, whatever its own folder is.
    os.makedirs(os.path.join(tempfile.gettempdir(), "ray"), exist_ok=True)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": folder})
    for _ in range(workers):
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    return cluster


def process_tree(root):
    """Process ids at and below `root`."""
    children = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parent = int(Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


class Watch(threading.Thread):
    """Follows the memory and processor time of the driver, the workers and Ray's processes."""

    def __init__(self, driver):
        super().__init__(daemon=True)
        self.driver, self.over = driver, threading.Event()
        self.peaks = {"driver": 0.0, "worker": 0.0, "workers": 0.0}
        self.used = {}  # pid -> [what, processor seconds at first, now]

    def run(self):
        """Look at all processes twice a second."""
        while not self.over.wait(0.5):
            owned = {}
            for pid in process_tree(os.getpid()):
                try:
                    told = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                what = self.kind(pid, told)
                seconds = (int(stat[11]) + int(stat[12])) / TICKS
                first = seconds if what == "ray" else 0.0  # Ray's own were there before
                used = self.used.setdefault(pid, [what, first, seconds])
                used[0], used[2] = what, seconds
                lines = [line for line in status.splitlines() if line.startswith("RssAnon")]
                if lines:
                    owned.setdefault(what, []).append(int(lines[0].split()[1]) / 1024)
            workers = owned.get("worker", [])
            for name, value in (
                ("driver", max(owned.get("driver", [0]))),
                ("worker", max(workers, default=0)),
                ("workers", sum(workers)),
            ):
                self.peaks[name] = max(self.peaks[name], value)

    def kind(self, pid, told):
        """Whether a process is the driver, a worker of Ray, idle or not, or one of Ray's own."""
        if pid == self.driver:
            return "driver"
        return "worker" if told.startswith("ray::") or "default_worker" in told else "ray"

    def seconds(self, what):
        """Processor seconds since the watch began."""
        return sum(end - start for kind, start, end in self.used.values() if kind == what)


def predict(place, run, images, address):
    """Run the command; wall seconds, the watch, and whether the table has each image once."""
    command = [sys.executable, "-c", "from kderm.cli import main; main()", "ensemble-predict"]
    command += [str(images), "--run", str(run), "--out", "streamed", "--launcher", "ray"]
    start = time.monotonic()
    with open(place / "log.txt", "a") as log:
        environment = {**os.environ, "RAY_ADDRESS": address}
        process = subprocess.Popen(
            [*command, "predict.batch_size=256"],
            cwd=place,
            stdout=log,
            stderr=log,
            env=environment,
        )
        watch = Watch(process.pid)
        watch.start()
        process.wait()
    seconds = time.monotonic() - start
    watch.over.set()
    watch.join()
    if process.returncode:
        raise SystemExit(f"failed:\n{(place / 'log.txt').read_text()[-3000:]}")
    return seconds, watch


def check(place, rows):
    """Whether predictions.csv names each image once, in order."""
    before, count = "", 0
    with open(place / "streamed" / "predictions.csv") as table:
        next(table)
        for line in table:
            name = line.partition(",")[0]
            if name <= before:
                return "NOT in order"
            before, count = name, count + 1
    return "each once" if count == rows else f"{count} rows"


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 40_000, 100_000, 400_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--folder", type=Path, help="on this disk (default: a temporary folder)")
    parser.add_argument("--run", type=Path, help="a run to predict with (default: trained first)")
    options = parser.parse_args()
    names = ("rows", "workers", "wall s", "images/s", "driver", "worker", "ray", "us/image")
    print(" ".join(f"{name:>9}" for name in (*names, "driver MB", "worker MB", "all MB", "table")))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        make_pictures(place / "pictures")
        make_backbone(place / "backbone.keras")
        root = place / "train"
        run = options.run.absolute() if options.run else root / "runs" / "scaling"
        if not options.run:
            make_data_set(root, place / "pictures", 2000)
            measure(commands(root, place / "backbone.keras", "")["cv"], root)
        for rows in options.rows:
            images = place / f"rows_{rows}"
            make_data_set(images, place / "pictures", rows)
            for workers in options.workers:
                # A socket's path may have about a hundred characters.
                with tempfile.TemporaryDirectory(prefix="kr-", dir="/tmp") as sockets:
                    cluster = start_cluster(sockets, workers)
                    try:
                        seconds, watch = predict(place, run, images / "images", cluster.address)
                    finally:
                        cluster.shutdown()
                used = [watch.seconds(what) for what in ("driver", "worker", "ray")]
                numbers = [rows, workers, seconds, rows / seconds, *used, sum(used) / rows * 1e6]
                numbers += watch.peaks.values()
                print(" ".join(f"{x:9.0f}" for x in numbers), "", check(place, rows), flush=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores; load averages at the end {load}")


if __name__ == "__main__":
    main()
