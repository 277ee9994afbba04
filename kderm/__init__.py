"""kderm: lesion-grouped cross-validation ensembles of EfficientNets on dermoscopy images."""

import os

__version__ = "0.1.0"

# Keras reads its backend once, at first import; PyTorch is ours unless the user chose another.
os.environ.setdefault("KERAS_BACKEND", "torch")
