"""Training steps and forward passes: the native graph, Keras' own layers, and timm, in turns.

    python benchmarks/training_step.py --preset keras_applications/efficientnetb0
    python benchmarks/training_step.py --preset keras_cv/efficientnetv2_b0 --sides timm compiled

The peer needs `pip install timm torchvision`; without it, it is left out. One process, one batch:
a round runs each once, so that a busy machine slows all alike; the table has medians over rounds.
Keras with the torch backend only. All sides clip the gradient and take an AdamW step. On a busy
machine --processor-time counts what the process itself used. The side "compiled" is timm under
torch.compile; what its first calls take is printed apart. Where the time goes: profile_step.py.
"""

import argparse
import os
import platform
import statistics
import time

os.environ["KERAS_BACKEND"] = "torch"

PEERS = {
    "keras_applications/efficientnetb0": "efficientnet_b0",
    "keras_hub/efficientnet_b0_ra_imagenet": "efficientnet_b0",
    "keras_cv/efficientnetv1_b0": "efficientnet_b0",
    "keras_cv/efficientnetv2_b0": "tf_efficientnetv2_b0",
    "keras_applications/efficientnetv2b0": "tf_efficientnetv2_b0",
}
CLASSES = 7
SIDES = ["native", "keras", "timm", "compiled"]


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="keras_applications/efficientnetb0")
    parser.add_argument("--size", type=int, default=224, help="input, pixels a side")
    parser.add_argument("--batch", type=int, default=16, help="images a step")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--precision", default="float32", help="float32, float16 or bfloat16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=SIDES[:3], help="what is timed beside native"
    )
    parser.add_argument("--processor-time", action="store_true", help="instead of time on the wall")
    return parser.parse_args()


def member(arguments, *, native):
    """A compiled classifier with the recipe's optimizer, as calls of a step and a forward pass."""
    import keras
    import torch

    from kderm.models.classifier import build_classifier
    from kderm.models.native.swap import use_native_graph
    from kderm.runtime import precision_policy
    from kderm.training.optimizer import build_optimizer

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision_policy(arguments.precision))
    model = build_classifier(arguments.preset, arguments.size, CLASSES, weights="none")
    options = {"weight_decay": 0.01, "global_clipnorm": 1.0}
    optimizer = keras.optimizers.AdamW(1e-5, **options)
    if native:
        use_native_graph(model)
        optimizer = build_optimizer(
            peak=1e-5,
            steps=1000,
            warmup=0.0,
            schedule="constant",
            weight_decay=0.01,
            clip_norm=1.0,
            ema=None,
            accumulate=1,
        )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def forward(images):
        with torch.no_grad():
            return model(images, training=False)

    return model.train_on_batch, forward


def peer(arguments, *, compiled):
    """The same of timm: channels_last, eager or compiled, under autocast for 16 bits."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(PEERS[arguments.preset], num_classes=CLASSES)
    model = model.to(device(), memory_format=torch.channels_last)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.01)
    half = arguments.precision != "float32"
    cast = torch.autocast(device().type, getattr(torch, arguments.precision), enabled=half)
    scaler = torch.amp.GradScaler(device().type, enabled=arguments.precision == "float16")

    def step(images, labels):
        model.train()
        optimizer.zero_grad()
        with cast:
            logits = run(images.permute(0, 3, 1, 2))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    def forward(images):
        model.eval()
        with torch.no_grad(), cast:
            return run(images.permute(0, 3, 1, 2))

    return step, forward


def side(name, arguments):
    """The calls of one of SIDES; None, with a word, for a peer that is not there."""
    if name in ("native", "keras"):
        return member(arguments, native=name == "native")
    if arguments.preset not in PEERS:
        print(f"timm has nothing to compare {arguments.preset} with")
        return None
    try:
        return peer(arguments, compiled=name == "compiled")
    except ImportError as error:
        print(f"without {name} ({error}); it needs: pip install timm torchvision")
        return None


def batch_of(arguments):
    """Random images, float32 (n, h, w, 3) in 0..255, and labels (n,)."""
    import torch

    shape = (arguments.batch, arguments.size, arguments.size, 3)
    images = 255 * torch.rand(shape, device=device())
    return images, torch.randint(0, CLASSES, (arguments.batch,), device=device())


def device():
    """Where tensors go."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait():
    """Return when the device has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(function, *arguments, clock=time.perf_counter):
    """Time of one call."""
    wait()
    start = clock()
    function(*arguments)
    wait()
    return clock() - start


def measured(sides, images, labels, rounds, clock):
    """Median seconds as {(side, what): value}; the first, warming round is left out."""
    times = {}
    for number in range(rounds + 1):
        for name, (step, forward) in sides.items():
            for what, call in (
                ("training step", (step, images, labels)),
                ("forward", (forward, images)),
            ):
                if number:
                    if what == "forward":
                        forward(images)  # the first one after a step folds the new weights
                    taken = seconds(*call, clock=clock)
                    times.setdefault((name, what), []).append(taken)
                else:
                    taken = seconds(*call)
                    if name == "compiled":
                        print(f"compiling timm's {what}: {taken:.0f} s on the wall", flush=True)
    return {key: statistics.median(values) for key, values in times.items()}


def print_table(found, batch):
    """Images a second of each side, and native over each."""
    names = list(dict.fromkeys(name for name, _ in found))
    for what in ("training step", "forward"):
        print(f"\n{what:24}{'images/s':>10}{'native is':>11}")
        for name in names:
            ratio = found[name, what] / found["native", what]
            print(f"  {name:22}{batch / found[name, what]:10.1f}{ratio:10.2f}x")


def peaks(dtype, clock=time.perf_counter, repeats=7):
    """Operations a second of a convolution that suits the machine, and bytes a second of a copy."""
    import torch

    images = torch.rand(16, 256, 32, 32, device=device(), dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(256, 256, 3, 3, device=device(), dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    source = torch.rand(1 << 25, device=device())
    target = torch.empty_like(source)
    calls = (torch.nn.functional.conv2d, images, kernel, None, 1, 1), (target.copy_, source)
    with torch.no_grad():
        convolution, copy = (
            min(seconds(*call, clock=clock) for _ in range(repeats)) for call in calls
        )
    work = 2 * images.numel() * kernel[0].numel()
    return work / convolution, 2 * source.numel() * source.element_size() / copy


def where():
    """For people: what it ran on."""
    import torch

    if device().type == "cuda":
        return torch.cuda.get_device_name(0)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"cpu {platform.machine()}, {torch.get_num_threads()} threads{load}"


def main():
    """Measure and print."""
    arguments = parse()
    import torch

    from kderm.runtime import keep_freed_memory

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    sides = {name: side(name, arguments) for name in dict.fromkeys(["native", *arguments.sides])}
    sides = {name: calls for name, calls in sides.items() if calls is not None}
    images, labels = batch_of(arguments)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    found = measured(sides, images, labels, arguments.rounds, clock)
    print(
        f"{arguments.preset}, {arguments.size} px, batch {arguments.batch}, "
        f"{arguments.precision}, torch {torch.__version__} on {where()}"
        f"{', processor time' if arguments.processor_time else ''}"
    )
    print_table(found, arguments.batch)


if __name__ == "__main__":
    main()
