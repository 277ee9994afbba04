"""What works on this machine, told without training anything: `python run.py doctor`."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys

from kderm.run_dir import runs_root
from kderm.runtime import check_backend, choose_precision, device_name

_PACKAGES = {
    "torch": "default backend",
    "jax": "extra 'jax'",
    "tensorflow": "needed by keras-cv; also a backend",
    "keras_cv": "default backbones",
    "keras_hub": "extra 'hub'",
    "onnxruntime": "extra 'onnx': ensemble-predict --engine onnx",
    "openvino": "extra 'openvino': ensemble-predict --engine openvino",
    "cv2": "extra 'opencv': hair removal, CLAHE",
    "tensorboard": "extra 'tensorboard'",
}


def examine() -> list[list[str]]:
    """Rows (what, state) about Python, the backend, its device, packages, weights and disk."""
    from kderm.models.weights import weights_root

    rows = [["Python", sys.version.split()[0]]]
    for package, purpose in _PACKAGES.items():
        rows.append([package, f"{_version(package)} ({purpose})"])
    rows.append(["backend", f"{check_backend()} (set by KERAS_BACKEND)"])
    rows.append(["device", device_name()])
    rows.append(["precision", f"{choose_precision('auto')} (train.precision=auto)"])
    rows.append(["processors", str(os.cpu_count())])
    root = weights_root()
    found = sum(1 for _ in root.glob("*/*")) if root.is_dir() else 0
    rows.append(["weights", f"{found} presets in {root}"])
    runs = runs_root()
    place = runs if runs.exists() else runs.parent
    free = shutil.disk_usage(place).free / 2**30
    writable = "writable" if os.access(place, os.W_OK) else "NOT writable"
    rows.append(["runs", f"{runs}/, {writable}, {free:.0f} GiB free"])
    stores = [path for path in runs.glob("_stores/*/*") if path.is_file()]
    size = sum(path.stat().st_size for path in stores) / 2**30
    rows.append(["image stores", f"{size:.1f} GiB in {runs}/_stores (rebuilt when deleted)"])
    return rows


def _version(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return "not installed"
    names = importlib.metadata.packages_distributions().get(package, [package])
    return importlib.metadata.version(names[0])
