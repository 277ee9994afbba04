"""Device, precision, seeds and the record of the environment.

Keras and its backend are imported inside functions: the command line's help must stay instant.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from kderm import console
from kderm.errors import UserError

_BACKENDS = {"torch": "torch", "jax": "jax", "tensorflow": "tensorflow"}
# What bounds the threads of the numerical libraries.
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


def seed_for(seed: int, fold: int, purpose: str, *more: int) -> int:
    """A 32-bit seed from (run seed, fold, purpose, ...), the same whatever else has run before."""
    text = "/".join(str(part) for part in (seed, fold, purpose, *more))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def rng_for(seed: int, fold: int, purpose: str, *more: int) -> np.random.Generator:
    """A NumPy generator seeded by `seed_for`."""
    return np.random.default_rng(seed_for(seed, fold, purpose, *more))


def core_count() -> int:
    """The cores this process may use: a container or a cluster job has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def asked_threads() -> int:
    """The number that OMP_NUM_THREADS says; 0 where it says none."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() else 0


def thread_limits(threads: int) -> tuple[int, dict[str, str]]:
    """At most `threads`, or fewer where OMP_NUM_THREADS says so, and the variables that say it.

    For processes that are started: the numerical libraries read them when they are imported.
    """
    threads = min(threads, asked_threads() or threads)
    return threads, dict.fromkeys(_THREADS, str(threads))


def check_backend() -> str:
    """The Keras backend that KERAS_BACKEND names, made sure to be importable.

    Raises:
        UserError: an unknown name, or a backend that is not installed.
    """
    name = os.environ.get("KERAS_BACKEND", "torch")
    if name not in _BACKENDS:
        raise UserError(
            f"KERAS_BACKEND must be one of {', '.join(_BACKENDS)}. Received: {name!r}. "
            "Unset it for the default, torch."
        )
    if importlib.util.find_spec(_BACKENDS[name]) is None:
        extra = {"jax": "pip install -e '.[jax]'"}.get(name, f"pip install {name}")
        raise UserError(
            f"KERAS_BACKEND is {name!r}, but that package is not installed. "
            f"Install it with: {extra}"
        )
    if name == "tensorflow":  # which needs some of them itself
        with quiet_tensorflow():
            import keras  # noqa: F401
    else:
        with left_out([package for package in _COMPANIONS if package != name]):
            leave_tensorflow_out()
    return name


# What Keras imports on its start if it is installed, for wrappers and pictures that kderm does not
# use: nearly half of the time that `import keras` takes.
_COMPANIONS = ("sklearn", "matplotlib", "cv2", "jax", "requests")


@contextlib.contextmanager
def left_out(packages: Iterable[str]) -> Iterator[None]:
    """Have no import of `packages` succeed inside, unless they are there already."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for package in absent:
            sys.modules.pop(package, None)


def leave_tensorflow_out() -> None:
    """Keep Keras from importing TensorFlow, seconds for nothing, under another backend.

    Keras' serialisation asks whether TensorFlow is there by importing it. keras-cv, which needs it,
    still imports it itself. Where Keras has moved this flag, the import merely happens.
    """
    from keras.src.utils import module_utils

    if getattr(module_utils.tensorflow, "_available", True) is None:
        module_utils.tensorflow._available = False


@contextlib.contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep TensorFlow's start-up lines off the terminal; other lines come through afterwards.

    TF_CPP_MIN_LOG_LEVEL=0 lets everything through. The first lines are written by C++ before any
    level is read, so the descriptor itself is held while the import runs.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            lines = held.read().splitlines(keepends=True)
            os.write(2, b"".join(line for line in lines if not _START_UP_LINE.match(line)))


_START_UP_LINE = re.compile(rb"WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d:")


def device_name() -> str:
    """What the active backend computes on, for people: "NVIDIA H200", "cpu (2 threads)", ..."""
    import keras

    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
        if torch.backends.mps.is_available():
            return "mps"
        return f"cpu ({torch.get_num_threads()} threads)"
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return "cpu" if device.platform == "cpu" else device.device_kind
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "gpu")


def choose_precision(asked: str) -> str:
    """The precision to train in: `asked`, or for "auto" what suits the device.

    Returns:
        "float32", "float16" or "bfloat16". On CUDA, auto is bfloat16 where the card computes in it
        (compute capability 8 and later) and float16 before; everywhere else it is float32.
    """
    if asked != "auto":
        return asked
    import keras

    if keras.backend.backend() == "torch":
        import torch

        if not torch.cuda.is_available():
            return "float32"
        return "bfloat16" if torch.cuda.get_device_capability(0)[0] >= 8 else "float16"
    if device_name() in ("cpu", "mps"):
        return "float32"
    return "bfloat16"


def keep_freed_memory() -> None:
    """Tell glibc to keep big freed blocks: giving them back costs 22,000 page faults a step.

    On torch's CPU training of EfficientNet-Lite0 this is worth 18 % at the same peak memory. Does
    nothing where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of <malloc.h>
    library = ctypes.CDLL(None)
    library.mallopt(mmap_threshold, 1 << 30)
    library.mallopt(trim_threshold, 2**31 - 1)


def precision_policy(precision: str) -> str:
    """The Keras dtype policy of a precision: mixed for the 16-bit ones."""
    return precision if precision == "float32" else f"mixed_{precision}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is a backend's way to say that the device's memory is full."""
    name, text = type(error).__name__, str(error)
    return (
        name in ("OutOfMemoryError", "ResourceExhaustedError")
        or "RESOURCE_EXHAUSTED" in text
        or "CUDA out of memory" in text
        or "MPS backend out of memory" in text
        or "Failed to allocate memory for requested buffer" in text  # ONNX Runtime
    )


def halved_batch(batch_size: int) -> int:
    """Half of `batch_size`, said to the user: the device's memory was full.

    Raises:
        UserError: one image is all that there is.
    """
    if batch_size == 1:
        raise UserError(
            "The device's memory is full with one image a forward pass. Expected room for one: "
            "close other programs on the device, or run on the CPU (CUDA_VISIBLE_DEVICES=)."
        )
    half = batch_size // 2
    console.warn(f"the device's memory is full; predicting {half} images at a time")
    return half


def release_memory() -> None:
    """Give the device memory of things that are gone back; imports no backend for it."""
    import gc

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def environment_record() -> dict:
    """Versions and device of this process, for `environment.json` and the report."""
    import keras

    import kderm

    packages = ("torch", "keras-cv", "keras-hub", "tensorflow-cpu", "jax", "numpy", "pillow")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "kderm": kderm.__version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "device": device_name(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
    }
