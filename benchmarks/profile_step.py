"""Where the time of a native training step goes, and how far each operator is from the machine.

    python benchmarks/profile_step.py --preset keras_applications/efficientnetb0
    python benchmarks/profile_step.py --preset keras_cv/efficientnetv2_b0 --threads 1

Options as of training_step.py. Every torch operator and every kernel of kderm is timed on its own,
so that a GPU waits after each. The peaks are those of a large convolution and of a copy in the same
run; bytes are those of the tensors that an operator is given and gives, as often as it reads them.
At the peaks an operator takes the longer one of its two times.
"""

import contextlib
import math
import time
from collections import defaultdict
from dataclasses import dataclass

from training_step import batch_of, measured, member, parse, peaks, seconds, wait, where

# Kernel -> how often it goes over the tensors that it is given.
READS = {
    "statistics": 1,
    "normalize": 1,
    "pooled": 1,
    "gate_gradient": 1,
    "norm_gradient": 2,
    "depthwise_kernel_gradient": 1,
}


@dataclass
class Spent:
    """Of all calls of one kind: seconds, multiplications and additions, bytes, number."""

    time: float = 0.0
    work: float = 0.0
    bytes: float = 0.0
    calls: int = 0

    def add(self, taken, work, moved):
        """Count one more call."""
        self.time += taken
        self.work += work
        self.bytes += moved
        self.calls += 1

    def limit(self, rate, bandwidth):
        """Seconds at the machine's peaks."""
        return max(self.work / rate, self.bytes / bandwidth)


def tensors_in(found):
    """The tensors of nested lists, tuples, dataclasses of kderm and plain values."""
    import torch

    if isinstance(found, torch.Tensor):
        return [found]
    if isinstance(found, dict):
        found = found.values()
    elif hasattr(found, "__dataclass_fields__"):
        found = vars(found).values()
    elif not isinstance(found, (list, tuple)):
        return []
    return [tensor for one in found for tensor in tensors_in(one)]


def size_of(found):
    """Bytes of all tensors in there."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(found))


def of_convolution(name, arguments):
    """Kind, and multiplications and additions, of aten's convolution or its gradient."""
    back = name == "convolution_backward"
    outputs, images, kernel = arguments[:3] if back else (None, *arguments[:2])
    height, width = kernel.shape[2:]
    groups = arguments[9] if back else arguments[8]
    form = "depthwise" if groups == images.shape[1] > 1 else "convolution"
    kind = f"{form} {height} x {width}"
    if back:
        gradients = sum(arguments[10][:2])
        return f"{kind}, gradients", gradients * 2 * outputs.numel() * kernel[0].numel()
    padding, strides = arguments[4], arguments[3]
    sides = [
        (length + 2 * pad - size) // stride + 1
        for length, pad, size, stride in zip(
            images.shape[2:], padding, (height, width), strides, strict=True
        )
    ]
    return kind, 2 * images.shape[0] * math.prod(sides) * kernel.numel()


def kind_and_work(name, arguments):
    """The row of aten's operator `name`, and its multiplications and additions."""
    if name in ("convolution", "convolution_backward"):
        return of_convolution(name, arguments)
    return name, 0


@contextlib.contextmanager
def listening(spent, clock):
    """Add all calls made in there to `spent`, kind -> Spent."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from kderm.models.native import kernels

    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            wait()
            start = clock()
            result = function(*args, **kwargs)
            wait()
            taken = clock() - start
            name = function.overloadpacket.__name__
            kind, work = kind_and_work(name, args)
            untouched = function.is_view or "empty" in name
            moved = 0 if untouched else size_of([args, kwargs, result])
            spent[kind].add(taken, work, moved)
            return result

    def heard(name, function):
        def call(*args, **kwargs):
            inner = sum(one.time for one in spent.values())
            start = clock()
            result = function(*args, **kwargs)
            inner = sum(one.time for one in spent.values()) - inner
            work = 2 * args[0].numel() * 25 if name == "depthwise_kernel_gradient" else 0
            moved = READS[name] * size_of([args, kwargs]) + size_of([result])
            spent[f"kderm: {name}"].add(clock() - start - inner, work, moved)
            return result

        return call

    own = {name: getattr(kernels, name) for name in READS}
    try:
        for name, function in own.items():
            setattr(kernels, name, heard(name, function))
        with Mode():
            yield
    finally:
        for name, function in own.items():
            setattr(kernels, name, function)


def print_table(spent, whole, rounds, rows, rate, bandwidth):
    """Kinds by their share of a step of `whole` seconds."""
    print(f"peaks: {rate / 1e9:.0f} GFLOP/s (convolution), {bandwidth / 1e9:.1f} GB/s (copy)\n")
    print(
        "| operator | calls | ms | share | GFLOP/s | GB/s | at the peaks, ms |\n"
        "|---|---|---|---|---|---|---|"
    )
    ordered = sorted(spent.items(), key=lambda item: -item[1].time)
    few = Spent()
    for _, one in ordered[rows:]:
        few.time, few.calls = few.time + one.time, few.calls + one.calls
    total = sum(one.time for one in spent.values()) / rounds
    rest = Spent(time=max(0.0, whole - total) * rounds)
    for name, one in [*ordered[:rows], ("other operators", few), ("Python and the rest", rest)]:
        work = f"{one.work / one.time / 1e9:.0f}" if one.work else ""
        moved = f"{one.bytes / one.time / 1e9:.1f}" if one.bytes else ""
        print(
            f"| {name} | {one.calls // rounds} | {1e3 * one.time / rounds:.1f} "
            f"| {one.time / rounds / whole:.1%} | {work} | {moved} "
            f"| {1e3 * one.limit(rate, bandwidth) / rounds:.1f} |".replace("| 0.0 |", "| |")
        )
    limit = sum(one.limit(rate, bandwidth) for one in spent.values()) / rounds
    print(f"\na step: {1e3 * whole:.0f} ms; all operators at the peaks {1e3 * limit:.0f} ms")


def main():
    """Measure and print."""
    arguments = parse()
    import torch

    from kderm.runtime import keep_freed_memory

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    images, labels = batch_of(arguments)
    sides = {"native": member(arguments, native=True)}
    step, _ = sides["native"]
    whole = measured(sides, images, labels, arguments.rounds, clock)["native", "training step"]
    spent = defaultdict(Spent)
    for _ in range(arguments.rounds):
        with listening(spent, clock):
            seconds(step, images, labels)
    print(
        f"{arguments.preset}, {arguments.size} px, batch {arguments.batch}, "
        f"{arguments.precision}, torch {torch.__version__} on {where()}"
    )
    limits = peaks(getattr(torch, arguments.precision), clock)
    print_table(spent, whole, arguments.rounds, 16, *limits)


if __name__ == "__main__":
    main()
