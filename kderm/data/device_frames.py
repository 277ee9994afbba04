"""Where training batches take their frames from: the whole store on the device, or the host.

Stands between the store and `kderm.data.batches`, on torch alone; the other backends take the
host's arrays as they are. Pixels are the same bytes whichever way they go.
"""

from typing import TYPE_CHECKING, Protocol

import keras
import numpy as np

from kderm.runtime import is_out_of_memory, release_memory

if TYPE_CHECKING:
    import torch

# Of the device's free memory. The rest is for activations, and for folds that share the card: five
# of them that take theirs in turn still leave a quarter.
STORE_SHARE = 0.25
_PIECE_BYTES = 256 << 20


class FrameSource(Protocol):
    """What `TrainBatches` needs of its frames: `shape` (N, H, W, 3), and rows by index."""

    shape: tuple[int, ...]

    def __getitem__(self, rows: np.ndarray) -> "np.ndarray | torch.Tensor":
        """uint8 (len(rows), H, W, 3)."""


def training_frames(images: FrameSource, store_on_device: str = "auto") -> FrameSource:
    """`images` as training batches take them.

    Args:
        images: uint8 (N, H, W, 3), a store's memory map or the like, on the host.
        store_on_device: "auto" keeps all of them on an accelerator if they take at most
            `STORE_SHARE` of its free memory; "never" brings them there batch by batch.
    """
    if keras.backend.backend() != "torch":
        return images
    device = keras.ops.convert_to_tensor(0).device
    if store_on_device == "auto" and np.prod(images.shape) <= STORE_SHARE * _free_bytes(device):
        try:
            return DeviceFrames(images, device)
        except Exception as error:  # folds that began at the same moment saw the same free memory
            if not is_out_of_memory(error):
                raise
        release_memory()
    return HostFrames(images, device)


class HostFrames:
    """Frames on the host; rows come as a tensor on the device."""

    def __init__(self, images: FrameSource, device: "torch.device") -> None:
        """Args:
        images: uint8 (N, H, W, 3).
        device: where rows go.
        """
        self.images = images
        self.shape = tuple(images.shape)
        self.device = device

    def __getitem__(self, rows: np.ndarray) -> "torch.Tensor":
        """uint8 (len(rows), H, W, 3) on the device."""
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        if self.device.type == "cuda":
            # From pinned memory the copy runs while the host goes on.
            return batch.pin_memory().to(self.device, non_blocking=True)
        return batch.to(self.device)


class DeviceFrames:
    """All frames on the device; rows are taken there, and only their numbers travel."""

    def __init__(self, images: FrameSource, device: "torch.device") -> None:
        """Args:
        images: uint8 (N, H, W, 3), read piece by piece.
        device: where they go.
        """
        import torch

        self.shape = tuple(images.shape)
        self.frames = torch.empty(self.shape, dtype=torch.uint8, device=device)
        piece = max(1, _PIECE_BYTES // int(np.prod(self.shape[1:])))
        for start in range(0, self.shape[0], piece):
            rows = np.arange(start, min(start + piece, self.shape[0]))
            self.frames[start : start + piece] = torch.from_numpy(
                np.ascontiguousarray(images[rows])
            )

    def __getitem__(self, rows: np.ndarray) -> "torch.Tensor":
        """uint8 (len(rows), H, W, 3) on the device."""
        import torch

        return self.frames.index_select(0, torch.from_numpy(rows).to(self.frames.device))


def _free_bytes(device: "torch.device") -> int:
    """Free memory of an accelerator; 0 for the CPU, where the store is in reach already."""
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
