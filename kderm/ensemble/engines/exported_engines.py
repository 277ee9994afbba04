"""ONNX Runtime and OpenVINO: an exported ensemble, without Keras and its backends.

Reads the files that `kderm.ensemble.engines.exports` wrote. Each worker thread asks one member
about one batch on one core, which wastes less than all cores on one batch do.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kderm.ensemble.engines.engine import Engine, Word, padded
from kderm.errors import UserError, missing_extra
from kderm.runtime import asked_threads, core_count, is_out_of_memory

# Names of the inputs and outputs of an exported member.
PIXELS, METADATA, PROBABILITIES, FEATURES = "pixels", "metadata", "probabilities", "features"
_CUDA = "CUDAExecutionProvider"


class OnnxEngine(Engine):
    """Members in ONNX Runtime: on the GPU where its GPU build is installed, else on the CPU."""

    def __init__(
        self, files: Sequence[Path], size: int, batch_size: int, *, features: bool = False
    ) -> None:
        """Args:
        files: a member each.
        size: side of their input, pixels.
        batch_size: images a forward pass.
        features: whether pooled features are wanted too.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        known = onnxruntime.get_available_providers()
        providers = [name for name in (_CUDA, "CPUExecutionProvider") if name in known]
        self._sessions = []
        self._wanted = [PROBABILITIES, *([FEATURES] if features else [])]
        for file in files:
            with _told(file, "ONNX Runtime", onnxruntime):
                session = onnxruntime.InferenceSession(str(file), options, providers=providers)
                _check_names(
                    [one.name for one in session.get_inputs()],
                    [one.name for one in session.get_outputs()],
                    self._wanted,
                )
                self._sessions.append(session)
        # The GPU build knows CUDA without a card too, and then takes the CPU without a word.
        gpu = all(_CUDA in session.get_providers() for session in self._sessions)
        super().__init__(len(files), size, batch_size, 1 if gpu else _cores())
        self._pads = gpu

    def ask(self, member: int, pixels: np.ndarray, metadata: np.ndarray | None) -> Word:
        """One session's answer."""
        count = len(pixels)
        given = _given(pixels, metadata)
        if self._pads:  # an accelerator rounds by the batch's shape
            given = {name: padded(array, self.batch_size) for name, array in given.items()}
        found = [rows[:count] for rows in self._sessions[member].run(self._wanted, given)]
        return found[0], found[1] if len(found) > 1 else None


class OpenVinoEngine(Engine):
    """Members in OpenVINO on the CPU, in the precision that is asked for and no other."""

    def __init__(
        self,
        files: Sequence[Path],
        size: int,
        batch_size: int,
        *,
        precision: str = "float32",
        features: bool = False,
    ) -> None:
        """Args:
        files: a member each, in ONNX format.
        size: side of their input, pixels.
        batch_size: images a forward pass.
        precision: "bfloat16", or "float32", which an int8 file takes for what is not int8 in it.
        features: whether pooled features are wanted too.
        """
        openvino = import_openvino()
        super().__init__(len(files), size, batch_size, _cores())
        core = openvino.Core()
        # Unless it is told, OpenVINO computes in bfloat16 wherever the processor can.
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "NUM_STREAMS": self.workers,
            "INFERENCE_NUM_THREADS": self.workers,
        }
        self._compiled = []
        wanted = [PROBABILITIES, *([FEATURES] if features else [])]
        for file in files:
            with _told(file, "OpenVINO", openvino):
                compiled = core.compile_model(str(file), "CPU", settings)
                sides = (compiled.inputs, compiled.outputs)
                _check_names(*([one.any_name for one in side] for side in sides), wanted)
                self._compiled.append(compiled)
        # OpenVINO's binding looks numpy up at the first array. Two threads that are first at the
        # same time wait for each other for ever (seen), so the first one is here.
        _ = openvino.Tensor(np.zeros(1, np.float32)).data
        self._features = features
        self._own = threading.local()

    def ask(self, member: int, pixels: np.ndarray, metadata: np.ndarray | None) -> Word:
        """One compiled member's answer, by this thread's own request."""
        request = self._request(member)
        found = request.infer(_given(pixels, metadata))
        seen = np.array(found[FEATURES]) if self._features else None
        return np.array(found[PROBABILITIES]), seen  # copies: the request reuses its memory

    def _request(self, member: int) -> Any:
        requests = self._own.__dict__
        if member not in requests:
            requests[member] = self._compiled[member].create_infer_request()
        return requests[member]


def _cores() -> int:
    """CPU cores to compute on: what OMP_NUM_THREADS says, else what the system says."""
    return asked_threads() or core_count()


def _given(pixels: np.ndarray, metadata: np.ndarray | None) -> dict[str, np.ndarray]:
    return {PIXELS: pixels} if metadata is None else {PIXELS: pixels, METADATA: metadata}


def _check_names(inputs: Sequence[str], outputs: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises ValueError for a file that was not made to be asked as a member is."""
    if PIXELS not in inputs or not set(wanted) <= set(outputs):
        raise ValueError(
            f"it takes {', '.join(inputs)} and gives {', '.join(outputs)}, where {PIXELS} and "
            f"{', '.join(wanted)} are needed"
        )


@contextlib.contextmanager
def _told(file: Path, name: str, package: Any) -> Iterator[None]:
    """Raise what a package says of a file that it opens as a `UserError`; a lack of memory stays.

    Args:
        file: that is opened.
        name: of the package.
        package: the module, whose version tells why a file does not open.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # The last line is the reason; OpenVINO tells first through which of its files it came.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(
            f"Expected a member in ONNX format that {name} {package.__version__} can run. "
            f"Received: {file} ({reason}). Remove the folder {file.parent} and repeat the command, "
            "which exports the members anew; or predict with --engine keras."
        ) from error


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, an optional extra."""
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("onnxruntime", "onnx", "The engine onnx") from None
    return onnxruntime


def import_openvino() -> Any:
    """The module `openvino`, an optional extra."""
    try:
        import openvino
    except ImportError:
        raise missing_extra("openvino", "openvino", "The engine openvino") from None
    return openvino
