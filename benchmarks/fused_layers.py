"""Training and forward images/s of Keras' stock layers and kderm's fast ones, in turns.

    python benchmarks/fused_layers.py --preset keras_cv/efficientnetv2_b0 --size 128
    python benchmarks/fused_layers.py --preset file/BACKBONE.keras --weights preset --profile

One model, one compiled training step (AdamW, clipped); the layers are swapped between
rounds, so that a busy machine slows both. The table shows medians over rounds. Torch only.
"""

import argparse
import os
import platform
import statistics
import time

os.environ["KERAS_BACKEND"] = "torch"


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="keras_cv/efficientnetv2_b0")
    parser.add_argument("--weights", default="none", help="as in the config's model.weights")
    parser.add_argument("--size", type=int, default=128, help="input, pixels a side")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--precision", default="float32", help="float32, float16 or bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    parser.add_argument("--profile", action="store_true", help="where a fast step's time goes")
    return parser.parse_args()


def build(arguments):
    """A compiled classifier of seven classes."""
    import keras

    from kderm.models.classifier import build_classifier
    from kderm.models.losses import build_loss
    from kderm.runtime import precision_policy

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision_policy(arguments.precision))
    model = build_classifier(arguments.preset, arguments.size, 7, weights=arguments.weights)
    model.compile(keras.optimizers.AdamW(1e-5, clipnorm=1.0), build_loss("cross_entropy"))
    return model


def seconds(function, steps):
    """Seconds a call, over `steps` calls."""
    start = time.perf_counter()
    for _ in range(steps):
        function()
    wait()
    return (time.perf_counter() - start) / steps


def wait():
    """Return when the device has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(model, images, labels, rounds, steps):
    """Median images/s as {(what, layers): rate}; the first, warming round is left out."""
    from kderm.models.fused import use_fused_layers, use_stock_layers

    tasks = {
        "training step": lambda: model.train_on_batch(images, labels),
        "forward": lambda: model.predict_on_batch(images),
    }
    swaps = {"stock": use_stock_layers, "fused": use_fused_layers}
    times = {(task, layers): [] for task in tasks for layers in swaps}
    for number in range(rounds + 1):
        for layers, swap in swaps.items():
            swap(model)
            for task, function in tasks.items():
                taken = seconds(function, steps)
                if number:
                    times[task, layers].append(taken)
    return {key: len(images) / statistics.median(values) for key, values in times.items()}


def print_profile(model, images, labels, rows=12):
    """Share of a fast training step by operator."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from kderm.models.fused import use_fused_layers

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    use_fused_layers(model)
    with profile(activities=activities) as trace:
        model.train_on_batch(images, labels)
        wait()
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in trace.key_averages()
    }
    whole = sum(spent.values())
    print("\nshare of a fast training step")
    for name in sorted(spent, key=spent.get, reverse=True)[:rows]:
        print(f"{spent[name] / whole:7.1%}  {name}")


def device():
    """For people: what it ran on."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"cpu {platform.machine()}, {torch.get_num_threads()} threads{load}"


def main():
    """Measure and print."""
    arguments = parse()
    import numpy as np
    import torch

    from kderm.runtime import keep_freed_memory

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    rng = np.random.default_rng(0)
    shape = (arguments.batch, arguments.size, arguments.size, 3)
    images = rng.uniform(0, 255, shape).astype("float32")
    labels = rng.integers(0, 7, arguments.batch)
    model = build(arguments)
    rates = compare(model, images, labels, arguments.rounds, arguments.steps)
    print(
        f"{arguments.preset}, {arguments.size} px, batch {arguments.batch}, "
        f"{arguments.precision}, torch {torch.__version__} on {device()}"
    )
    print(f"{'images/s':16}{'stock':>9}{'fused':>9}{'ratio':>8}")
    for task in ("training step", "forward"):
        stock, fused = rates[task, "stock"], rates[task, "fused"]
        print(f"{task:16}{stock:9.1f}{fused:9.1f}{fused / stock:7.2f}x")
    if arguments.profile:
        print_profile(model, images, labels)


if __name__ == "__main__":
    main()
