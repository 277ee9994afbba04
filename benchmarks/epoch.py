"""A whole training epoch with its data: kderm from its store, against a DataLoader and timm.

    python benchmarks/epoch.py [--preset keras_applications/efficientnetb0] [--peer efficientnet_b0]

Draws dermoscopy-like JPEGs of 600 x 450 pixels, prepares them as `prepare` does, and trains epochs
in turns: kderm's own phase of training (store, augmentation, its network, its optimizer, its
callbacks), and what one would write with PyTorch: a DataLoader whose workers decode, resize and
flip, and timm's network in channels_last under AdamW with the same clipping. Both train in the same
precision at the same batch. Printed: images/s of whole epochs, the median of the rounds, and the
share of the time that each waited for its data.

The peer needs `pip install timm torchvision`. Presets are built without pretrained weights.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CODES = ("nv", "mel", "bkl", "bcc", "akiec", "vasc", "df")


def make_data_set(root, count):
    """Class folders of JPEGs with soft blobs and grain."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = rng.integers(90, 230, (9, 12, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((600, 450), Image.Resampling.BICUBIC))
        image = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
        folder = root / CODES[number % len(CODES)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=90)


class Ours:
    """Epochs of fold 0 as `cv` trains them, without the scoring at their end."""

    def __init__(self, root, options):
        from kderm.config.reading import load_config
        from kderm.data.prepare import prepare
        from kderm.run_dir import RunDir
        from kderm.training import fold

        overrides = [
            *("data.dataset=class_folders", f"data.root={root}", "folds.k=2"),
            *(f"model.preset={options.preset}", "model.weights=none", f"image.size={options.size}"),
            *(f"train.batch_size={options.batch}", f"train.precision={options.precision}"),
            *("train.frozen_epochs=0", "train.epochs=1000"),
        ]
        config = load_config(None, overrides)
        run = RunDir(Path("runs") / "epoch")
        self.task = fold.new_task(
            config, prepare(config), run.fold(0), 0, fold.choose_precision(options.precision)
        )
        state = fold.begin(self.task)
        phase = fold.phases(config)[1]
        self.model, self.batches = fold.compile_phase(self.task, state, phase)
        callbacks = fold.phase_callbacks(
            *(self.task, state, phase, self.model, self.batches),
            lambda done, total: None,
            lambda row: None,
        )
        self.callbacks = callbacks[:-1]  # not the one that scores the held-out fold
        self.images = len(self.batches) * self.batches.batch_size
        self.waited = 0.0
        make = self.batches.__class__.__getitem__

        class Timed(self.batches.__class__):
            def __getitem__(batches, number):
                start = time.perf_counter()
                try:
                    return make(batches, number)
                finally:
                    self.waited += time.perf_counter() - start

        self.batches.__class__ = Timed

    def epoch(self):
        """Train one epoch; seconds, and those spent on making batches."""
        self.waited = 0.0
        start = time.perf_counter()
        self.model.fit(
            self.batches, epochs=1, shuffle=False, verbose=0, callbacks=list(self.callbacks)
        )
        _finish()
        return time.perf_counter() - start, self.waited


class Decoded:
    """Decode, resize, flip: float32 (3, s, s) standardised, and the label."""

    def __init__(self, paths, labels, size):
        self.paths, self.labels, self.size = paths, labels, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        import torch

        with Image.open(self.paths[row]) as image:
            image = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        for flip in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM):
            if torch.rand(()) < 0.5:
                image = image.transpose(flip)
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1)
        return (pixels - 127.5) / 58.0, self.labels[row]


class Peer:
    """A DataLoader and timm."""

    def __init__(self, paths, labels, options):
        import timm
        import torch

        torch.manual_seed(0)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = options.precision
        net = timm.create_model(options.peer, num_classes=len(CODES), drop_rate=0.2)
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self.loader = torch.utils.data.DataLoader(
            Decoded(paths, labels, options.size),
            batch_size=options.batch,
            shuffle=True,
            drop_last=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
            pin_memory=self.device.type == "cuda",
        )
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=3e-4, weight_decay=0.01)
        self.images = len(self.loader) * options.batch

    def epoch(self):
        """Train one epoch; seconds, and those spent on waiting for the DataLoader."""
        import torch

        dtype = {"float32": None, "bfloat16": torch.bfloat16}[self.precision]
        self.net.train()
        waited, start = 0.0, time.perf_counter()
        begun = start
        for pixels, labels in self.loader:
            waited += time.perf_counter() - begun
            pixels = pixels.to(self.device, memory_format=torch.channels_last, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                loss = torch.nn.functional.cross_entropy(self.net(pixels), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            begun = time.perf_counter()
        _finish()
        return time.perf_counter() - start, waited


def _finish():
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="keras_applications/efficientnetb0")
    parser.add_argument("--peer", default="efficientnet_b0", help="timm's name of the network")
    parser.add_argument("--size", type=int, default=224, help="network input, pixels a side")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--images", type=int, default=256, help="images of an epoch")
    parser.add_argument("--rounds", type=int, default=3, help="timed epochs of each")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoader")
    options = parser.parse_args()

    from kderm.runtime import device_name, keep_freed_memory

    keep_freed_memory()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        root = Path(folder) / "images"
        make_data_set(root, 2 * options.images)
        ours = Ours(root, options)
        files = sorted(root.rglob("*.jpg"))[: ours.images]
        peer = Peer(files, [CODES.index(path.parent.name) for path in files], options)
        rivals = {f"DataLoader + timm {options.peer}": peer, f"kderm {options.preset}": ours}
        found = {name: [] for name in rivals}
        for round_number in range(options.rounds + 1):
            for name, rival in rivals.items():
                seconds, waited = rival.epoch()
                if round_number:
                    found[name].append((rival.images / seconds, waited / seconds))
        os.chdir(here)
    print(
        f"epochs of {ours.images} images, {options.size} px, batch {options.batch}, "
        f"{options.precision}, {device_name()}, load averages {os.getloadavg()}"
    )
    print(f"{'':48}{'images/s':>10}{'ratio':>8}{'waits for data':>16}")
    first = None
    for name, rounds in found.items():
        rate = statistics.median(rate for rate, _ in rounds)
        first = first or rate
        waited = statistics.median(share for _, share in rounds)
        print(f"{name:48}{rate:10.1f}{rate / first:7.2f}x{waited:16.1%}")


if __name__ == "__main__":
    main()
