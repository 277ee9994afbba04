"""How a prediction is made, beyond the bundle and the images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What changes the answers, if only a little.

    Attributes:
        views: test-time views.
        combine: "probability", "logit" or "oof".
        engine: "keras", "onnx" or "openvino".
        precision: "float32", "bfloat16" or "int8".
        early_exit: standard error of a probability at which an image gets no further views; 0:
            every image gets all.
    """

    views: str
    combine: str
    engine: str = "keras"
    precision: str = "float32"
    early_exit: float = 0.0
