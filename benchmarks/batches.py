"""Two ratios: store batches against a DataLoader that decodes, and `Warp` against Keras' layers.

    python benchmarks/batches.py [FOLDER OF JPEGS] [--workers 2]

Without a folder it makes JPEGs of 600 x 450 pixels, HAM10000's size. The peer is a torch DataLoader
over Pillow's decode and resize, whose workers live through all rounds; it is timed over whole
epochs, because it decodes ahead, and alone, before the others. Beside the batches stands what the
memory gives: the rate of copying as many frames that lie in one piece. The others take turns within
one run; the table shows the median of the rounds. The backend is KERAS_BACKEND's, the device the
one Keras picks.
"""

import argparse
import itertools
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kderm.data.augment import draw_colours, draw_transforms
from kderm.data.images import IMAGE_SUFFIXES, ImageSpec
from kderm.data.store import build_store
from kderm.runtime import keep_freed_memory


def make_jpegs(folder, count):
    """Smooth blobs with grain, at a JPEG size close to real dermoscopy."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(90, 230, (9, 12, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC))
        grain = rng.normal(0, 4, image.shape)
        Image.fromarray((image + grain).clip(0, 255).astype(np.uint8)).save(
            folder / f"{number:04d}.jpg", quality=90
        )


class Decoded:
    """What a data set without a store does at every epoch: for a torch DataLoader."""

    def __init__(self, paths, spec):
        self.paths, self.spec = paths, spec

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        with Image.open(self.paths[row]) as image:
            return np.array(image.convert("RGB").resize((self.spec.width, self.spec.height)))


def decoding_rate(paths, spec, batch_size, workers, rounds):
    """Median images/s of whole epochs of shuffled batches, uint8 (n, H, W, 3)."""
    import torch

    loader = torch.utils.data.DataLoader(
        Decoded(paths, spec),
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    seconds = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        count = sum(len(batch) for batch in loader)  # whole epochs, so nothing is decoded before
        if number:  # the first one starts the workers
            seconds.append(time.perf_counter() - start)
    return count / statistics.median(seconds)


def image_rates(rivals, images, rounds):
    """Median images/s of each named function of a round number, called in turns."""
    seconds = {name: [] for name in rivals}
    for round_number in range(rounds + 1):
        for name, function in rivals.items():
            start = time.perf_counter()
            function(round_number)
            if round_number:  # the first call builds and compiles
                seconds[name].append(time.perf_counter() - start)
    return {name: images / statistics.median(times) for name, times in seconds.items()}


def compare_store(paths, spec, batch_size, rounds, workers):
    """A round of batches decoded, read from a store, and made as training has them."""
    from kderm.data.device_frames import training_frames

    per_round = max(4, len(paths) // batch_size // 4)
    count = per_round * batch_size
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        ids = [str(number) for number in range(len(paths))]
        start = time.perf_counter()
        store, unreadable = build_store(Path(folder) / "store", ids, paths, spec)
        built = len(paths) / (time.perf_counter() - start)
        if unreadable:
            raise SystemExit(f"These files cannot be read: {unreadable}")
        rows = [rng.permutation(len(paths))[:batch_size] for _ in range(per_round)]
        batches = train_batches(training_frames(store.images), len(paths), batch_size)
        whole = np.array(store.images[:count])
        target = np.empty_like(whole)

        def each(make):  # one batch at a time is alive, as in training
            def run(_):
                for number in range(per_round):
                    make(number)

            return run

        rivals = {
            "store, rows of a batch": each(lambda number: store.images[rows[number]]),
            "training batches, draws included": each(lambda k: batches[k % len(batches)]),
            "memory: copying as many frames": lambda _: np.copyto(target[: len(whole)], whole),
        }
        decoded = decoding_rate(paths, spec, batch_size, workers, rounds)
        rates = {f"DataLoader, {workers} workers": decoded, **image_rates(rivals, count, rounds)}
        rates["memory: copying as many frames"] *= len(whole) / count
    frame = int(np.prod(spec.shape))
    print(
        f"a frame has {frame} bytes: the store's rows come at "
        f"{rates['store, rows of a batch'] * frame / 1e9:.1f} GB/s, frames in one piece are copied "
        f"at {rates['memory: copying as many frames'] * frame / 1e9:.1f} GB/s"
    )
    return {**rates, "store, building it (once)": built}


def train_batches(frames, count, batch_size):
    """Training's own batches over the first `count` frames, at the default augmentation."""
    from kderm.config.schema import AugmentConfig, BalanceConfig
    from kderm.data.balance import plan_balance
    from kderm.data.batches import TrainBatches

    labels = np.arange(count) % 7
    plan = plan_balance(labels, tuple("abcdefg"), **BalanceConfig().model_dump())
    return TrainBatches(
        frames,
        np.arange(count),
        labels,
        classes=7,
        plan=plan,
        batch_size=batch_size,
        augment=AugmentConfig().model_dump(),
        seed=0,
        fold=0,
    )


def compare_warp(spec, size, batch_size, rounds):
    """One warp with every change, and Keras' rotation and zoom alone, on ready squares."""
    import keras

    from kderm.data.warp import Warp

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (batch_size, *spec.shape), dtype=np.uint8)
    squares = keras.ops.convert_to_tensor(frames[:, :size, :size].astype(np.float32))
    rotate = keras.layers.RandomRotation(0.5, fill_mode="reflect")
    zoom = keras.layers.RandomZoom(0.15, fill_mode="reflect")
    warp = Warp(size)

    def finish(images):
        keras.ops.convert_to_numpy(images[:1, :1, :1])  # waits for the device
        return images

    def with_warp(_):
        transforms = draw_transforms(
            rng, batch_size, frames.shape[1:3], flip=True, rotation=180.0, zoom=0.15, shift=0.06
        )
        colours = draw_colours(
            rng, batch_size, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02
        )
        return finish(warp(frames, transforms, colours))

    rivals = {
        "Keras RandomRotation + RandomZoom": lambda _: finish(
            zoom(rotate(squares, training=True), training=True)
        ),
        "Warp, draw included": with_warp,
    }
    return image_rates(rivals, batch_size, rounds), device_of(with_warp(0))


def device_of(tensor):
    """For people: the backend, the device, and the processor or card behind it."""
    import keras

    name = f"{keras.backend.backend()} on {getattr(tensor, 'device', 'cpu')}"
    if keras.backend.backend() == "torch" and tensor.is_cuda:
        import torch

        return f"{name}, {torch.cuda.get_device_name(tensor.device)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {platform.machine()}, {cores} cores"


def print_table(title, rates):
    """Images/s, and each as a multiple of the first row."""
    peer = next(iter(rates.values()))
    print(f"\n{title}\n{'':38}{'images/s':>12}{'ratio':>9}")
    for name, rate in rates.items():
        print(f"{name:38}{rate:12.0f}{rate / peer:8.1f}x")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="JPEGs (default: made on the spot)")
    parser.add_argument("--images", type=int, default=256, help="files taken or made")
    parser.add_argument("--size", type=int, default=224, help="network input, pixels a side")
    parser.add_argument("--batch", type=int, default=32, help="images a batch")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--without-warp", action="store_true", help="only the batches")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoader")
    options = parser.parse_args()

    keep_freed_memory()  # as training does
    side = round(options.size * 8 / 7)
    spec = ImageSpec(side, side)
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            make_jpegs(folder, options.images)
        found = (
            path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES
        )
        paths = list(itertools.islice(found, options.images))
        if not paths:
            raise SystemExit(f"No image in {folder}.")
        batch_size = min(options.batch, len(paths))
        with Image.open(paths[0]) as first:
            title = f"{len(paths)} files of {first.width} x {first.height} -> {side} x {side}"
        stored = compare_store(paths, spec, batch_size, options.rounds, options.workers)
    print_table(f"Batches of {batch_size}, {title}", stored)
    if not options.without_warp:
        warped, device = compare_warp(spec, options.size, batch_size, options.rounds)
        print_table(f"{side} x {side} -> {options.size} x {options.size}, {device}", warped)
    print(f"\nload averages {', '.join(f'{value:.1f}' for value in os.getloadavg())}")


if __name__ == "__main__":
    main()
