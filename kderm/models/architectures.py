"""Architecture facts: the constructor arguments of each backbone family, as plain data.

The presets' short constructors ask Kaggle for these numbers even when no weights are wanted; the
explicit constructors do not. So the numbers live here, and a test counts the parameters they give.
Sources: EfficientNet arXiv:1905.11946, EfficientNetV2 arXiv:2104.00298, EfficientNet-Lite
(tensorflow/tpu), ResNet arXiv:1512.03385, and timm's variants behind keras-hub.
"""

import math
from typing import Any

# Width, depth and native size of EfficientNet V1, Lite and V2-B.
V1_SCALES = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}
LITE_SCALES = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 280),
    "b4": (1.4, 1.8, 300),
}
V2_SCALES = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "s": (1.0, 1.0, 384),
    "m": (1.0, 1.0, 480),
    "l": (1.0, 1.0, 480),
}

_V1_STAGES: dict[str, list] = {
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}
# Repeats, input and output filters; the rest follows from the number of stages.
_V2_STAGES: dict[str, tuple[list, list, list]] = {
    "b": ([1, 2, 2, 3, 5, 8], [32, 16, 32, 48, 96, 112], [16, 32, 48, 96, 112, 192]),
    "s": ([2, 4, 4, 6, 9, 15], [24, 24, 48, 64, 128, 160], [24, 48, 64, 128, 160, 256]),
    "m": (
        [3, 5, 5, 7, 14, 18, 5],
        [24, 24, 48, 80, 160, 176, 304],
        [24, 48, 80, 160, 176, 304, 512],
    ),
    "l": (
        [4, 7, 7, 10, 19, 25, 7],
        [32, 32, 64, 96, 192, 224, 384],
        [32, 64, 96, 192, 224, 384, 640],
    ),
}
STOCHASTIC_DEPTH = 0.2


def keras_cv_v1(scale: str) -> dict[str, Any]:
    """Arguments of `keras_cv.models.EfficientNetV1Backbone`."""
    width, depth, _ = V1_SCALES[scale]
    repeats = [math.ceil(depth * count) for count in _V1_STAGES["stackwise_num_repeats"]]
    return _V1_STAGES | {
        "stackwise_squeeze_and_excite_ratios": [0.25] * 7,
        "width_coefficient": width,
        "depth_coefficient": depth,
        "drop_connect_rate": _keras_cv_rate(_V1_STAGES["stackwise_num_repeats"], repeats),
    }


def keras_cv_lite(scale: str) -> dict[str, Any]:
    """Arguments of `keras_cv.models.EfficientNetLiteBackbone`."""
    width, depth, _ = LITE_SCALES[scale]
    counts = _V1_STAGES["stackwise_num_repeats"]
    # Lite keeps its first and last stage at every depth.
    repeats = [counts[0], *(math.ceil(depth * count) for count in counts[1:-1]), counts[-1]]
    return _V1_STAGES | {
        "width_coefficient": width,
        "depth_coefficient": depth,
        "drop_connect_rate": _keras_cv_rate(counts, repeats),
    }


def keras_cv_v2(scale: str) -> dict[str, Any]:
    """Arguments of `keras_cv.models.EfficientNetV2Backbone`."""
    width, depth, _ = V2_SCALES[scale]
    counts, inputs, outputs = _V2_STAGES["b" if scale.startswith("b") else scale]
    stages = len(counts)
    return {
        "stackwise_kernel_sizes": [3] * stages,
        "stackwise_num_repeats": counts,
        "stackwise_input_filters": inputs,
        "stackwise_output_filters": outputs,
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6, 6][:stages],
        "stackwise_squeeze_and_excite_ratios": [0.0] * 3 + [0.25] * (stages - 3),
        "stackwise_strides": [1, 2, 2, 2, 1, 2, 1][:stages],
        "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * (stages - 3),
        "width_coefficient": width,
        "depth_coefficient": depth,
        "skip_connection_dropout": _keras_cv_rate(
            counts, [math.ceil(depth * count) for count in counts]
        ),
    }


def keras_cv_v2_tiny() -> dict[str, Any]:
    """Our own narrow EfficientNetV2, total stride 16, for demos and tests at 32 to 64 px."""
    return {
        "stackwise_kernel_sizes": [3, 3, 3, 3],
        "stackwise_num_repeats": [1, 1, 2, 2],
        # The width of 1/8 is for the last convolution, whose 1280 filters are built in.
        "stackwise_input_filters": [128, 128, 192, 320],
        "stackwise_output_filters": [128, 192, 320, 512],
        "stackwise_expansion_ratios": [1, 4, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0.25, 0.25],
        "stackwise_strides": [1, 2, 2, 2],
        "stackwise_conv_types": ["fused", "fused", "unfused", "unfused"],
        "width_coefficient": 0.125,
        "depth_coefficient": 1.0,
        "skip_connection_dropout": 0.0,
    }


def keras_cv_resnet(layers: int) -> dict[str, Any]:
    """Arguments of `keras_cv.models.ResNetBackbone` and `ResNetV2Backbone`."""
    return {
        "stackwise_filters": [64, 128, 256, 512],
        "stackwise_blocks": {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[layers],
        "stackwise_strides": [1, 2, 2, 2],
        "block_type": {18: "basic_block", 50: "block"}[layers],
    }


def _keras_cv_rate(counts: list[int], repeats: list[int]) -> float:
    """The rate to hand to keras-cv so that its last block drops with `STOCHASTIC_DEPTH`.

    keras-cv divides by the number of blocks before depth scaling, which would let V1-B7 reach 0.68.
    """
    return STOCHASTIC_DEPTH * sum(counts) / sum(repeats)


def keras_hub_v1(scale: str, lite: bool = False) -> dict[str, Any]:
    """Arguments of `keras_hub.models.EfficientNetBackbone` for timm's V1 and Lite0 weights."""
    width, depth, _ = V1_SCALES[scale]
    return _V1_STAGES | {
        "stackwise_squeeze_and_excite_ratios": [0.0 if lite else 0.25] * 7,
        "stackwise_width_coefficients": [width] * 7,
        "stackwise_depth_coefficients": [depth] * 7,
        "stackwise_block_types": ["v1"] * 7,
        "activation": "relu6" if lite else "swish",
        "min_depth": None,
        "use_depth_divisor_as_min_depth": True,
        "cap_round_filter_decrease": True,
        **_TIMM,
    }


def keras_hub_v2_rw(scale: str) -> dict[str, Any]:
    """Arguments of `keras_hub.models.EfficientNetBackbone` for timm's efficientnetv2_rw_t/s/m."""
    width = {"t": 0.8, "s": 1.0, "m": 1.2}[scale]
    depths = {"t": [0.9] * 6, "s": [1.0] * 6, "m": [1.2] * 4 + [1.6] * 2}[scale]
    counts, inputs, outputs = _V2_STAGES["s"]
    return {
        "stackwise_kernel_sizes": [3] * 6,
        "stackwise_num_repeats": counts,
        "stackwise_input_filters": inputs,
        "stackwise_output_filters": outputs if scale == "t" else [*outputs[:-1], 272],
        "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
        "stackwise_squeeze_and_excite_ratios": [0.0] * 3 + [0.25] * 3,
        "stackwise_strides": [1, 2, 2, 2, 1, 2],
        "stackwise_width_coefficients": [width] * 6,
        "stackwise_depth_coefficients": depths,
        "stackwise_block_types": ["cba" if scale == "t" else "fused"]
        + ["fused"] * 2
        + ["unfused"] * 3,
        "stackwise_force_input_filters": [0] * 6,
        "stackwise_nores_option": [False] * 6,
        "activation": "swish",
        "min_depth": None,
        "use_depth_divisor_as_min_depth": True,
        "cap_round_filter_decrease": True,
        "num_features": 1280 if scale == "t" else 1792,
        **_TIMM,
    }


def keras_hub_resnet(layers: int) -> dict[str, Any]:
    """Arguments of `keras_hub.models.ResNetBackbone`."""
    return {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 128, 256, 512],
        "stackwise_num_blocks": {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[layers],
        "stackwise_num_strides": [1, 2, 2, 2],
        "block_type": {18: "basic_block", 50: "bottleneck_block"}[layers],
    }


_TIMM: dict[str, Any] = {
    "include_stem_padding": True,
    "stem_conv_padding": "valid",
    "batch_norm_momentum": 0.9,
    "batch_norm_epsilon": 1e-5,
    "dropout": 0.0,
    "projection_activation": None,
}
