"""Images/s of an ensemble with test-time views: kderm's engines against timm, in turns.

    python benchmarks/prediction.py
    python benchmarks/prediction.py --run RUN --peer tf_efficientnet_lite0 --early-exit 0.03
    python benchmarks/prediction.py --run RUN --external IMAGES/ --early-exit 0.03

Five members, every view of d4, frames in memory (no decoding). The peer does the same number of
passes on the same pixels: its models in channels_last, eager, the views flipped on the device. All
take turns round by round, so that a busy machine slows all; medians over rounds. With a run (or a
smaller bundle of one) the members are its own, and an early exit is timed too, on images from
elsewhere (--external), or on those that the first member held out; the other members trained on
these, so there it saves more than on new images. Without a run the members have random weights. The
peer needs `pip install timm torchvision` and is left out without; its weights are random, which
changes no time.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

ENGINES = "keras:float32,keras:bfloat16,onnx:float32,openvino:float32,openvino:bfloat16"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument("--preset", default="keras_applications/efficientnetb0")
    parser.add_argument("--external", nargs="+", help="for --run: images from elsewhere")
    parser.add_argument("--size", type=int, default=224, help="for --preset: input, pixels a side")
    parser.add_argument("--members", type=int, default=5, help="for --preset")
    parser.add_argument("--peer", default="efficientnet_b0", help="timm model; '' for none")
    parser.add_argument(
        "--peer-precision", default="float32", help="float32 or bfloat16 (autocast)"
    )
    parser.add_argument("--engines", default=ENGINES, help="ENGINE:PRECISION, with commas between")
    parser.add_argument("--early-exit", type=float, default=0.0, help="for --run: a tolerance")
    parser.add_argument("--views", default="d4")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def random_bundle(directory: Path, preset: str, size: int, members: int):
    """A bundle of members with random weights; batch normalisation as after some training."""
    import keras
    import numpy as np
    from keras.layers import BatchNormalization

    import kderm
    from kderm.data.images import DECODER_VERSION
    from kderm.ensemble.bundle import Bundle
    from kderm.ensemble.bundle_facts import FORMAT, BundleFacts
    from kderm.labels import HAM10000
    from kderm.models.classifier import build_classifier

    told = []
    for fold in range(members):
        keras.utils.set_random_seed(fold)
        model = build_classifier(preset, size, len(HAM10000), weights="none")
        norms = [one for one in model._flatten_layers() if isinstance(one, BatchNormalization)]
        for layer in norms:  # statistics of noise, else the activations of random weights explode
            layer.momentum = 0.0
        noise = np.random.default_rng(fold).uniform(0, 255, (8, size, size, 3))
        model(noise.astype("float32"), training=True)
        path = directory / f"fold_{fold}.keras"
        model.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        told.append(
            {"fold": fold, "path": path.name, "sha256": digest, "scores": {"macro_auc": 0.5}}
        )
    stored = size * 8 // 7
    facts = {
        "format": FORMAT,
        "kderm": kderm.__version__,
        "run": "random",
        "synthetic": True,
        "labels": HAM10000.to_dict(),
        "image": {
            "size": size,
            "stored_height": stored,
            "stored_width": stored * 4 // 3,
            "decoder": DECODER_VERSION,
        },
        "views": "d4",
        "combine": "probability",
        "members": told,
        "malignant_threshold": None,
    }
    return Bundle(directory, BundleFacts.model_validate(facts), "")


def held_out_frames(bundle, count: int):
    """Frames of the run that the first member held out."""
    import numpy as np

    from kderm.ensemble.held_out import RunFrames, own_images, read_oof
    from kderm.run_dir import RunDir

    part = own_images(bundle, read_oof(bundle))[0]
    run = RunFrames(RunDir(bundle.directory), bundle)
    return np.concatenate(list(run.chunks(part.image_ids[:count], 64)))


def external_frames(bundle, sources, count: int):
    """Frames of images from elsewhere, evenly from all that there are."""
    import numpy as np

    from kderm.data.images import read_image
    from kderm.ensemble.inputs import find_inputs

    table = find_inputs(sources, bundle.labels, translate=True).table
    paths = table.loc[table["problem"] == "", "path"].tolist()
    rows = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))
    return np.stack([read_image(paths[row], bundle.spec) for row in rows])


def peer(arguments, bundle, frames):
    """A function that lets the timm models make all passes."""
    import timm
    import torch

    from kderm.data.views import view_transforms
    from kderm.ensemble.engines.looks import looks, resample

    device = "cuda" if torch.cuda.is_available() else "cpu"
    members, size = len(bundle.facts.members), bundle.facts.image.size
    models = [
        timm.create_model(arguments.peer, num_classes=len(bundle.labels))
        .eval()
        .to(device, memory_format=torch.channels_last)
        for _ in range(members)
    ]
    transforms = view_transforms(arguments.views, bundle.frame)
    half = arguments.peer_precision != "float32"

    @torch.inference_mode()
    def run():
        with torch.autocast(device, torch.bfloat16, enabled=half):
            pixels = {}
            for look in looks(transforms):
                if look.base not in pixels:
                    cut = torch.from_numpy(resample(frames, transforms[look.base], size))
                    pixels[look.base] = cut.to(device).div(127.5).sub(1).permute(0, 3, 1, 2)
                seen = pixels[look.base].flip([axis + 1 for axis in look.turn.axes])
                seen = seen.transpose(2, 3) if look.turn.transpose else seen
                seen = seen.contiguous(memory_format=torch.channels_last)
                for model in models:
                    for batch in seen.split(arguments.batch):
                        model(batch).float().softmax(-1).cpu()

    return run


def contenders(arguments, bundle, frames):
    """Name -> a function that makes all passes and gives what was answered."""
    from kderm.data.views import view_transforms
    from kderm.ensemble.engines.choose import open_engine
    from kderm.ensemble.passes import Exit, Passes

    transforms = view_transforms(arguments.views, bundle.frame)
    malignant = tuple(bundle.labels.malignant_indices)
    tolerances = [0.0, *([arguments.early_exit] if arguments.run else [])]
    found = {}
    for word in arguments.engines.split(","):
        engine, precision = word.split(":")
        made = open_engine(bundle, engine, precision, batch_size=arguments.batch, say=print)
        for tolerance in dict.fromkeys(tolerances):
            passes = Passes(made, transforms, len(bundle.labels), Exit(tolerance, malignant))
            name = f"{engine} {precision}" + (f", early exit {tolerance:g}" if tolerance else "")
            found[name] = lambda passes=passes: passes(frames)
    return found


def answers(passed):
    """float (n, k): the mean over members and the views that each image was shown."""
    import numpy as np

    rows = zip(passed.probabilities, passed.rounds, strict=True)
    return np.stack([row[:, :rounds].mean(axis=(0, 1)) for row, rounds in rows])


def main() -> None:
    """Time all in turns and print a Markdown table."""
    arguments = parse()
    if arguments.threads:  # before anything counts the cores
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import numpy as np
    import torch

    from kderm.ensemble.bundle import read_bundle
    from kderm.runtime import check_backend, device_name, keep_freed_memory

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    check_backend()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run:
            bundle = read_bundle(arguments.run)
            if arguments.external:
                frames = external_frames(bundle, arguments.external, arguments.images)
            else:
                frames = held_out_frames(bundle, arguments.images)
        else:
            own = (arguments.preset, arguments.size, arguments.members)
            bundle = random_bundle(Path(folder), *own)
            shape = (arguments.images, *bundle.frame, 3)
            frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        runs = contenders(arguments, bundle, frames)
        reference = answers(runs["keras float32"]()) if "keras float32" in runs else None
        told = {name: run() for name, run in runs.items()}
        if arguments.peer and find_spec("timm") is None:
            print("without timm; it needs: pip install timm torchvision")
        elif arguments.peer:
            runs = {f"timm {arguments.peer}, {arguments.peer_precision}": None, **runs}
            runs[next(iter(runs))] = peer(arguments, bundle, frames)
        times = {name: [] for name in runs}
        for number in range(arguments.rounds + 1):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - began)
    count = len(bundle.facts.members)
    load = os.getloadavg()[0]
    print(
        f"\n{bundle.facts.run if arguments.run else arguments.preset}, "
        f"{bundle.facts.image.size} px, {count} members x {arguments.views}, {len(frames)} images, "
        f"batch {arguments.batch}, {device_name()}, load {load:.1f}\n"
    )
    print("| engine | images/s | ratio to the first | passes an image | largest difference |")
    print("|---|---|---|---|---|")
    first = statistics.median(next(iter(times.values())))
    for name, taken in times.items():
        middle = statistics.median(taken)
        passes, apart = "", ""
        if name in told:
            passes = f"{told[name].passes.mean():.1f}"
            if reference is not None:
                apart = f"{np.abs(answers(told[name]) - reference).max():.1e}"
        print(
            f"| {name} | {len(frames) / middle:.2f} | {first / middle:.2f} | {passes} | {apart} |"
        )


if __name__ == "__main__":
    main()
