"""The registry of backbones: one row a preset, with the facts beside the name.

Data only: `backbones` builds from a row, `weights` finds its weights. Imports no network library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from kderm.errors import UserError, unknown_name
from kderm.models import architectures as facts

# How a backbone wants its RGB input in 0..255: x * scale + offset, a value per channel (R, G, B).
# The convention belongs to the weights, so it is a fact of the row.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT_CONVENTIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((1 / 255,) * 3, (0.0,) * 3),
    "imagenet": (
        tuple(1 / (255 * std) for std in _STD),
        tuple(-mean / std for mean, std in zip(_MEAN, _STD, strict=True)),
    ),
    "symmetric": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "symmetric_128": ((1 / 128,) * 3, (-1.0,) * 3),
    # Caffe's means; its BGR order is turned into RGB where the weights are loaded.
    "mean_only": ((1.0,) * 3, (-123.68, -116.779, -103.939)),
    "inside": ((1.0,) * 3, (0.0,) * 3),
}


@dataclass(frozen=True)
class Preset:
    """A backbone and where its weights come from.

    Attributes:
        name: PROVIDER/NAME, as in the config.
        provider: keras_cv, keras_hub, keras_applications, kderm or file.
        family: efficientnet_v1, efficientnet_v2, efficientnet_lite, resnet_v1, resnet_v2,
            small_cnn, saved.
        builder: class or function of the provider; the path for provider file.
        arguments: the builder's keyword arguments.
        convention: key of `INPUT_CONVENTIONS`.
        size: side in pixels the weights were trained at; None if only the file knows.
        parameters: parameters of the backbone without a head; None if only the file knows.
        licence: of the weights, or of the architecture's code where there are none.
        source: kaggle:// handle or URL of the pretrained weights; "" if there are none.
        checksum: md5 of the file behind a URL.
    """

    name: str
    provider: str
    family: str
    builder: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    convention: str = "unit"
    size: int | None = None
    parameters: int | None = None
    licence: str = "Apache-2.0"
    source: str = ""
    checksum: str = ""


def find_preset(name: str) -> Preset:
    """The row called `name` (PROVIDER/NAME), or a row for `file/PATH.keras`.

    Raises:
        UserError: unknown name; the nearest known ones are named.
    """
    if name in PRESETS:
        return PRESETS[name]
    provider, _, rest = name.partition("/")
    if provider == "file":
        if PurePath(rest).suffix != ".keras":
            raise UserError(
                "Expected file/PATH.keras, a Keras model saved with model.save(). "
                f"Received: {name!r}."
            )
        return Preset(
            name,
            "file",
            "saved",
            rest,
            convention="inside",
            licence="that of the file",
            source=name,
        )
    raise unknown_name(
        "preset", name, PRESETS, "`weights list` shows all; file/PATH.keras takes a saved model."
    )


def require_size(size: int) -> None:
    """Raise UserError if images of `size` pixels a side are too small for the backbones."""
    if size < 32:
        raise UserError(f"Expected image.size of at least 32 pixels. Received: {size}.")


def _keras_cv_rows() -> list[Preset]:
    kaggle = "kaggle://keras/{}/keras/{}/2"
    counts = _KERAS_CV_PARAMETERS
    rows = []

    def add(name: str, family: str, builder: str, arguments: dict, size: int, **more: Any) -> None:
        rows.append(
            Preset(
                f"keras_cv/{name}",
                "keras_cv",
                family,
                builder,
                arguments,
                size=size,
                parameters=counts[name.removesuffix("_imagenet")],
                **more,
            )
        )

    for scale, (_, _, size) in facts.V1_SCALES.items():
        arguments = facts.keras_cv_v1(scale)
        name = f"efficientnetv1_{scale}"
        add(name, "efficientnet_v1", "EfficientNetV1Backbone", arguments, size)
    for scale, (_, _, size) in facts.V2_SCALES.items():
        arguments = facts.keras_cv_v2(scale)
        name = f"efficientnetv2_{scale}"
        add(name, "efficientnet_v2", "EfficientNetV2Backbone", arguments, size)
        if scale in ("s", "b0", "b1", "b2"):
            name = f"{name}_imagenet"
            source = kaggle.format("efficientnetv2", name)
            add(name, "efficientnet_v2", "EfficientNetV2Backbone", arguments, size, source=source)
    arguments = facts.keras_cv_v2_tiny()
    add("efficientnetv2_tiny", "efficientnet_v2", "EfficientNetV2Backbone", arguments, 48)
    for scale, (_, _, size) in facts.LITE_SCALES.items():
        arguments = facts.keras_cv_lite(scale)
        name = f"efficientnetlite_{scale}"
        add(name, "efficientnet_lite", "EfficientNetLiteBackbone", arguments, size)
    for version, suffix, builder in ((1, "", "ResNetBackbone"), (2, "_v2", "ResNetV2Backbone")):
        for layers in (18, 50):
            name, arguments = f"resnet{layers}{suffix}", facts.keras_cv_resnet(layers)
            add(name, f"resnet_v{version}", builder, arguments, 224)
        name = f"resnet50{suffix}_imagenet"
        source = kaggle.format(f"resnetv{version}", name)
        add(name, f"resnet_v{version}", builder, arguments, 224, source=source)
    return rows


# What the constructors give, without a head (keras-cv's own V1 metadata are a few weights off).
_KERAS_CV_PARAMETERS = {
    "efficientnetv1_b0": 4_049_564,
    "efficientnetv1_b1": 6_575_232,
    "efficientnetv1_b2": 7_768_562,
    "efficientnetv1_b3": 10_783_528,
    "efficientnetv1_b4": 17_673_816,
    "efficientnetv1_b5": 28_513_520,
    "efficientnetv1_b6": 40_960_136,
    "efficientnetv1_b7": 64_097_680,
    "efficientnetv2_b0": 5_919_312,
    "efficientnetv2_b1": 6_931_124,
    "efficientnetv2_b2": 8_769_374,
    "efficientnetv2_b3": 12_930_622,
    "efficientnetv2_s": 20_331_360,
    "efficientnetv2_m": 53_150_388,
    "efficientnetv2_l": 117_746_848,
    "efficientnetv2_tiny": 121_914,
    "efficientnetlite_b0": 3_413_024,
    "efficientnetlite_b1": 4_189_344,
    "efficientnetlite_b2": 4_869_168,
    "efficientnetlite_b3": 6_992_768,
    "efficientnetlite_b4": 11_837_936,
    "resnet18": 11_186_112,
    "resnet50": 23_561_152,
    "resnet18_v2": 11_183_488,
    "resnet50_v2": 23_564_800,
}


def _keras_hub_rows() -> list[Preset]:
    v1, rw, resnet = facts.keras_hub_v1, facts.keras_hub_v2_rw, facts.keras_hub_resnet
    # Name, family, arguments, size, input convention, version of the Kaggle handle, parameters.
    # timm trained the ra4_e3600 weights with mean and deviation 0.5, the others with ImageNet's.
    table = [
        ("b0_ra", "v1", v1("b0"), 224, "imagenet", 2),
        ("b0_ra4_e3600_r224", "v1", v1("b0"), 224, "symmetric", 2),
        ("b1_ft", "v1", v1("b1"), 224, "imagenet", 5),
        ("b1_ra4_e3600_r240", "v1", v1("b1"), 240, "symmetric", 2),
        ("b2_ra", "v1", v1("b2"), 256, "imagenet", 2),
        ("b3_ra2", "v1", v1("b3"), 288, "imagenet", 2),
        ("b4_ra2", "v1", v1("b4"), 320, "imagenet", 2),
        ("b5_sw", "v1", v1("b5"), 416, "imagenet", 2),
        ("b5_sw_ft", "v1", v1("b5"), 448, "imagenet", 2),
        ("lite0_ra", "lite", v1("b0", lite=True), 224, "imagenet", 2),
        ("2_rw_t_ra2", "v2", rw("t"), 224, "imagenet", 2),
        ("2_rw_s_ra2", "v2", rw("s"), 288, "imagenet", 2),
        ("2_rw_m_agc", "v2", rw("m"), 320, "imagenet", 2),
    ]
    rows = []
    for stem, family, arguments, size, convention, version in table:
        name = f"efficientnet{stem if stem.startswith('2') else '_' + stem}_imagenet"
        rows.append(
            Preset(
                f"keras_hub/{name}",
                "keras_hub",
                f"efficientnet_{family}",
                "EfficientNetBackbone",
                arguments,
                convention,
                size,
                _KERAS_HUB_PARAMETERS[name],
                source=f"kaggle://keras/efficientnet/keras/{name}/{version}",
            )
        )
    for layers in (18, 50):
        name = f"resnet_{layers}_imagenet"
        rows.append(
            Preset(
                f"keras_hub/{name}",
                "keras_hub",
                "resnet_v1",
                "ResNetBackbone",
                resnet(layers),
                "imagenet",
                224,
                _KERAS_HUB_PARAMETERS[name],
                source=f"kaggle://keras/resnetv1/keras/{name}/3",
            )
        )
    return rows


_KERAS_HUB_PARAMETERS = {
    "efficientnet_b0_ra_imagenet": 4_049_564,
    "efficientnet_b0_ra4_e3600_r224_imagenet": 4_049_564,
    "efficientnet_b1_ft_imagenet": 6_575_232,
    "efficientnet_b1_ra4_e3600_r240_imagenet": 6_575_232,
    "efficientnet_b2_ra_imagenet": 7_768_562,
    "efficientnet_b3_ra2_imagenet": 10_783_528,
    "efficientnet_b4_ra2_imagenet": 17_673_816,
    "efficientnet_b5_sw_imagenet": 28_513_520,
    "efficientnet_b5_sw_ft_imagenet": 28_513_520,
    "efficientnet_lite0_ra_imagenet": 3_413_024,
    "efficientnet2_rw_t_ra2_imagenet": 12_743_412,
    "efficientnet2_rw_s_ra2_imagenet": 22_309_144,
    "efficientnet2_rw_m_agc_imagenet": 51_390_674,
    "resnet_18_imagenet": 11_186_112,
    "resnet_50_imagenet": 23_561_152,
}


def _keras_applications_rows() -> list[Preset]:
    bucket = "https://storage.googleapis.com"
    efficient = f"{bucket}/keras-applications/{{}}_notop.h5"
    efficient_v2 = f"{bucket}/tensorflow/keras-applications/efficientnet_v2/{{}}_notop.h5"
    residual = (
        f"{bucket}/tensorflow/keras-applications/resnet/"
        "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    )
    rows = []

    def add(builder: str, family: str, convention: str, size: int, url: str, more: dict) -> None:
        name = builder.lower()
        rows.append(
            Preset(
                f"keras_applications/{name}",
                "keras_applications",
                family,
                builder,
                {},
                convention,
                size,
                _KERAS_APPLICATIONS_PARAMETERS[name],
                source=url,
                checksum=_KERAS_APPLICATIONS_MD5[name],
                **more,
            )
        )

    for scale, (_, _, size) in facts.V1_SCALES.items():
        url = efficient.format(f"efficientnet{scale}")
        add(f"EfficientNet{scale.upper()}", "efficientnet_v1", "imagenet", size, url, {})
    for scale, (_, _, size) in facts.V2_SCALES.items():
        url = efficient_v2.format(f"efficientnetv2-{scale}")
        convention = "imagenet" if scale.startswith("b") else "symmetric_128"
        add(f"EfficientNetV2{scale.upper()}", "efficientnet_v2", convention, size, url, {})
    url = residual.format("resnet50")
    add("ResNet50", "resnet_v1", "mean_only", 224, url, {"licence": "MIT"})
    add("ResNet50V2", "resnet_v2", "symmetric", 224, residual.format("resnet50v2"), {})
    return rows


_KERAS_APPLICATIONS_PARAMETERS = {
    "efficientnetb0": 4_049_564,
    "efficientnetb1": 6_575_232,
    "efficientnetb2": 7_768_562,
    "efficientnetb3": 10_783_528,
    "efficientnetb4": 17_673_816,
    "efficientnetb5": 28_513_520,
    "efficientnetb6": 40_960_136,
    "efficientnetb7": 64_097_680,
    "efficientnetv2b0": 5_919_312,
    "efficientnetv2b1": 6_931_124,
    "efficientnetv2b2": 8_769_374,
    "efficientnetv2b3": 12_930_622,
    "efficientnetv2s": 20_331_360,
    "efficientnetv2m": 53_150_388,
    "efficientnetv2l": 117_746_848,
    "resnet50": 23_587_712,
    "resnet50v2": 23_564_800,
}
_KERAS_APPLICATIONS_MD5 = {
    "efficientnetb0": "50bc09e76180e00e4465e1a485ddc09d",
    "efficientnetb1": "74c4e6b3e1f6a1eea24c589628592432",
    "efficientnetb2": "111f8e2ac8aa800a7a99e3239f7bfb39",
    "efficientnetb3": "af6d107764bb5b1abb91932881670226",
    "efficientnetb4": "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "efficientnetb5": "38879255a25d3c92d5e44e04ae6cec6f",
    "efficientnetb6": "9ecce42647a20130c1f39a5d4cb75743",
    "efficientnetb7": "cbcfe4450ddf6f3ad90b1b398090fe4a",
    "efficientnetv2b0": "893217f2bb855e2983157299931e43ff",
    "efficientnetv2b1": "0e80663031ca32d657f9caa404b6ec37",
    "efficientnetv2b2": "1dfe2e7a5d45b6632553a8961ea609eb",
    "efficientnetv2b3": "f6abf7b5849ac99a89b50dd3fd532856",
    "efficientnetv2s": "af0682fb74e8c54910f2d4393339c070",
    "efficientnetv2m": "1b8dc055df72dde80d614482840fe342",
    "efficientnetv2l": "b0b66b5c863aef5b46e8608fe1711615",
    "resnet50": "4d473c1dd8becc155b73f8504c6f6626",
    "resnet50v2": "fac2f116257151a9d068a22e544a4917",
}


def _own_rows() -> list[Preset]:
    return [
        Preset(
            "kderm/small_cnn",
            "kderm",
            "small_cnn",
            "small_cnn",
            {"filters": (32, 64, 96, 128, 192)},
            "symmetric",
            224,
            408_416,
        )
    ]


PRESETS: dict[str, Preset] = {
    row.name: row
    for row in (
        *_keras_cv_rows(),
        *_keras_hub_rows(),
        *_keras_applications_rows(),
        *_own_rows(),
    )
}
