"""Training steps a second in float32, bfloat16 and float16 on this machine's device, and memory.

    python benchmarks/precision.py --preset keras_applications/efficientnetb0 --size 224 --batch 64

Generated images, the project's own training step (warp, classifier, loss, AdamW). The precisions
take turns, round by round, so that a drifting machine hits all alike; medians and ratios to float32
are printed with the device. Made for a GPU; on a CPU it shows why float32 is the default there.
"""

import argparse
import statistics
import time

import numpy as np

from kderm.runtime import check_backend, device_name, keep_freed_memory, precision_policy


def training_step(preset: str, size: int, batch: int, precision: str):
    """A function that runs one training step on generated images."""
    import keras

    from kderm.data.augment import draw_colours, draw_transforms
    from kderm.models.classifier import build_classifier
    from kderm.models.forward import warped
    from kderm.models.losses import build_loss
    from kderm.models.native.swap import use_native_graph
    from kderm.training.optimizer import build_optimizer

    keras.config.set_dtype_policy(precision_policy(precision))
    classifier = build_classifier(preset, size, 7, weights="none")
    keras.config.set_dtype_policy("float32")
    use_native_graph(classifier)
    frame = (size * 8 // 7, size * 8 // 7)
    model = warped(classifier, frame)
    model.compile(
        optimizer=build_optimizer(
            peak=1e-4,
            steps=1000,
            warmup=0.1,
            weight_decay=0.01,
            clip_norm=1.0,
            ema=None,
            accumulate=1,
        ),
        loss=build_loss("cross_entropy", gamma=0.0, label_smoothing=0.0),
    )
    rng = np.random.default_rng(0)
    inputs = {
        "images": rng.integers(0, 256, (batch, *frame, 3), dtype=np.uint8),
        "transforms": draw_transforms(
            rng, batch, frame, flip=True, rotation=180.0, zoom=0.1, shift=0.05
        ),
        "colours": draw_colours(rng, batch, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
    }
    labels = rng.integers(0, 7, batch).astype(np.int32)
    return lambda: model.train_on_batch(inputs, labels)  # returns a number: waits for the device


def main() -> None:
    """Time the precisions in turns and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="keras_applications/efficientnetb0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16", "float16"])
    arguments = parser.parse_args()
    check_backend()
    keep_freed_memory()
    steps = {
        name: training_step(arguments.preset, arguments.size, arguments.batch, name)
        for name in arguments.precisions
    }
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            seconds = time.perf_counter() - started
            rates[name].append(arguments.steps * arguments.batch / seconds)
    first = statistics.median(next(iter(rates.values())))
    print(f"{arguments.preset}, {arguments.size} px, batch {arguments.batch}, {device_name()}\n")
    print("| precision | training, images/s (median of rounds) | ratio |\n|---|---|---|")
    for name, found in rates.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.1f} | {middle / first:.2f} |")


if __name__ == "__main__":
    main()
