"""What of the machine each fold gets that trains beside others: a GPU, or a part of the cores."""

import os
from dataclasses import dataclass

from kderm.runtime import core_count, thread_limits


@dataclass(frozen=True)
class Share:
    """One process's part.

    Attributes:
        environment: variables that keep it to that part.
        words: the part for people.
    """

    environment: dict[str, str]
    words: str


def share_out(jobs: int) -> list[Share]:
    """Parts of the machine for `jobs` processes at a time.

    GPUs are dealt in turn, so that more processes than cards share them; the cores are divided.
    """
    cores = core_count()
    threads, limits = thread_limits(max(1, cores // jobs))
    gpus = gpu_names()
    shares = []
    for number in range(jobs):
        if not gpus:
            shares.append(Share(limits, f"{threads} of {cores} cores"))
            continue
        name = gpus[number % len(gpus)]
        shares.append(Share({**limits, "CUDA_VISIBLE_DEVICES": name}, f"GPU {name}"))
    return shares


def gpu_names() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say to name each GPU of the active backend; [] without any."""
    count = _gpu_count()
    given = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    given = [name for name in given if name]
    return given[:count] if given else [str(number) for number in range(count)]


def _gpu_count() -> int:
    import keras

    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.cuda.device_count()
    if backend == "jax":
        import jax

        return sum(device.platform in ("gpu", "cuda", "rocm") for device in jax.devices())
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def leave_room_on_the_gpu() -> None:
    """Keep JAX and TensorFlow from taking a whole card, in this process and those it starts."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
