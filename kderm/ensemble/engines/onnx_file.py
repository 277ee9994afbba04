"""One member as an ONNX file: its graph written by torch, then cleaned by ONNX Runtime.

The cleaning folds constants and batch normalisation and takes copies between layouts out; what it
leaves are operators of the standard, which OpenVINO reads too.
"""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kderm.atomic import atomic_path
from kderm.ensemble.engines.exported_engines import (
    FEATURES,
    METADATA,
    PIXELS,
    PROBABILITIES,
    import_onnxruntime,
)
from kderm.ensemble.engines.member_models import as_list
from kderm.ensemble.engines.plain_layers import use_plain_layers
from kderm.errors import UserError, missing_extra

OPSET = 20
# Convolutions at the input that stay in floating point where there are many: the stem and the first
# block see the whole picture, and rounding there is a third of all that int8 costs.
FLOAT_CONVOLUTIONS = 3
# Images that one batch of the calibration holds.
_CALIBRATED_TOGETHER = 32


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a model that `member_models.answering` made, for batches of any length.

    Args:
        model: float32, on the torch backend.
        path: of the file.

    Raises:
        UserError: another backend than torch, or the packages are missing.
    """
    check_can_export()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        with _quietly():
            _export(model, raw)
        with atomic_path(path) as temporary:
            _clean(raw, temporary)


def check_can_export() -> None:
    """Refuse what cannot work before any work is done.

    Raises:
        UserError: another backend than torch, or the packages are missing.
    """
    if keras.backend.backend() != "torch":
        raise UserError(
            "Engines are exported under the torch backend. Received: KERAS_BACKEND="
            f"{keras.backend.backend()}. Unset it for the export; the exported engine then runs "
            "under any."
        )
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "onnx", "onnx", "The export of an engine") from None
    import_onnxruntime()


def _export(model: keras.Model, path: Path) -> None:
    import torch

    use_plain_layers(model)
    names = [PIXELS, METADATA][: len(model.inputs)]
    # Two rows: one would be taken for a number that never changes.
    given = tuple(torch.zeros((2, *tensor.shape[1:])) for tensor in model.inputs)
    count = torch.export.Dim("n", min=1, max=1 << 16)
    with torch.no_grad():
        torch.onnx.export(
            _module(model),
            given,
            str(path),
            dynamo=True,
            external_data=False,
            input_names=names,
            output_names=[PROBABILITIES, FEATURES][: len(model.outputs)],
            dynamic_shapes={"given": tuple({0: count} for _ in given)},
            opset_version=OPSET,
            verbose=False,
        )


def _module(model: keras.Model) -> Any:
    """The model as a torch module that takes and gives tensors by position."""
    import torch

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> tuple:
            return tuple(as_list(self.model(list(given), training=False)))

    return Positional().eval()


def _clean(raw: Path, path: Path) -> None:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    # Basic: changes that hold on every machine; the engine makes its own on top of them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])


def quantise(
    source: Path, path: Path, pixels: np.ndarray, metadata: np.ndarray | None = None
) -> None:
    """Write an int8 copy of an exported member, its ranges taken from images.

    Weights have a scale a channel, activations one a tensor; the first convolutions and the head
    stay in float32.

    Args:
        source: what `write_onnx` wrote.
        path: of the copy.
        pixels: float32 (n, s, s, 3), images like those that it will see.
        metadata: float32 (n, d) for a member that takes them.
    """
    import onnx
    from onnxruntime import quantization

    nodes = onnx.load(str(source)).graph.node
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    with atomic_path(path) as temporary, _quietly():
        quantization.quantize_static(
            str(source),
            str(temporary),
            _Batches(pixels, metadata),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Mul", "Clip", "Relu"],
            nodes_to_exclude=convolutions[: min(FLOAT_CONVOLUTIONS, len(convolutions) // 8)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )


class _Batches:
    """Images in the form that the calibration asks for them."""

    def __init__(self, pixels: np.ndarray, metadata: np.ndarray | None) -> None:
        self._next = iter(self._all(pixels, metadata))

    @staticmethod
    def _all(pixels: np.ndarray, metadata: np.ndarray | None) -> Iterable[dict[str, np.ndarray]]:
        for start in range(0, len(pixels), _CALIBRATED_TOGETHER):
            rows = slice(start, start + _CALIBRATED_TOGETHER)
            more = {} if metadata is None else {METADATA: metadata[rows]}
            yield {PIXELS: pixels[rows], **more}

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch; None after the last."""
        return next(self._next, None)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporters' remarks on their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
