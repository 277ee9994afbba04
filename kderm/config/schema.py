"""Every option: closed, frozen pydantic models, each field described where it stands.

Leaf functions elsewhere take plain arguments, never these.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class SourceConfig(_Section):
    """One of several data sets that are joined."""

    dataset: str = Field(description="Adapter; see `kderm.data.datasets`.")
    root: Path = Field(description="Folder of the raw data set.")
    table: Path | None = Field(None, description="A metadata CSV; relative to root.")
    name: str | None = Field(None, description="What `source` says; default: the adapter's name.")
    map: dict[str, str] = Field({}, description="As data.map, for this source alone.")


class DataConfig(_Section):
    """Where the images and their table come from."""

    dataset: str = Field("demo", description="Adapter: demo, ham10000, isic2019, table, ...")
    root: Path | None = Field(None, description="Folder of the raw data set.")
    table: Path | None = Field(None, description="The CSV of dataset=table; relative to root.")
    sources: tuple[SourceConfig, ...] = Field(
        (), description="Several data sets joined into one, in place of dataset, root and table."
    )
    labels: str = Field("ham10000", description="Label space: ham10000, isic2019, binary, ...")
    classes: tuple[str, ...] = Field((), description="Class codes in order, for labels=custom.")
    malignant: tuple[str, ...] = Field(
        (), description="Malignant codes; needed for labels=custom, else replaces the space's own."
    )
    map: dict[str, str] = Field(
        {},
        description="Decides labels without one counterpart in the label space: code or spelling "
        "-> code, or `drop` to leave those images out.",
    )
    overlap: Literal["group", "remove", "ignore"] = Field(
        "group",
        description="The same picture twice in joined sources: keep both in one fold, keep the "
        "first source's, or do not look.",
    )
    duplicates: Path | None = Field(
        None, description="CSV of two image-id columns: pairs that must share a fold."
    )
    pseudo_labels: Path | None = Field(
        None, description="Table of further images that train only; see `cv --unlabelled`."
    )
    drop_unreadable: bool = Field(
        False, description="Drop unreadable images with a count instead of refusing."
    )
    demo_images: int = Field(560, ge=70, le=100_000, description="Images in the demo data set.")
    demo_size: int = Field(72, ge=32, le=600, description="Height of a demo image in pixels.")

    @property
    def is_demo(self) -> bool:
        """Whether the images are drawn by a program."""
        return self.dataset == "demo" and not self.sources

    @property
    def title(self) -> str:
        """The data set's name, or those of the joined ones."""
        names = [source.name or source.dataset for source in self.sources]
        return " + ".join(names) or self.dataset


class FoldsConfig(_Section):
    """How images are split."""

    k: int = Field(5, ge=2, le=20, description="Number of folds.")
    seed: int = Field(42, ge=0, description="Seed of the split; independent of the run's seed.")
    file: Path | None = Field(
        None, description="A frozen fold table to use; by default one is made."
    )


class ImageConfig(_Section):
    """Pixels: what is stored once, and what the model sees."""

    size: int = Field(224, ge=32, le=1024, description="Model input, pixels a side.")
    stored_height: int | None = Field(
        None, ge=32, le=2048, description="Height of a stored image; default size * 8/7."
    )
    stored_aspect: float = Field(
        1.0, ge=0.5, le=2.0, description="Stored width / height; images are cropped to it."
    )
    preprocess: tuple[Literal["border_crop", "hair_removal", "shades_of_gray", "clahe"], ...] = (
        Field((), description="Steps in order, when an image is decoded; see `data.preprocess`.")
    )

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Height and width of a stored image."""
        height = self.stored_height or round(self.size * 8 / 7)
        return height, round(height * self.stored_aspect)


class ModelConfig(_Section):
    """The member network."""

    preset: str = Field(
        "keras_cv/efficientnetv2_b0_imagenet",
        description="Backbone, PROVIDER/NAME; see `weights list`. file/PATH.keras also works.",
    )
    weights: str = Field(
        "preset",
        description="preset (what the preset names), none, or the path of a preset folder or file.",
    )
    pooling: Literal["avg", "max", "gem"] = Field("avg", description="Pooling of the feature map.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout before the logits.")
    dropout_samples: int = Field(
        1, ge=1, le=16, description="Multi-sample dropout: masks whose logits are averaged."
    )
    metadata: tuple[str, ...] = Field(
        (), description="Columns that the member sees beside the image: age, sex, site."
    )
    metadata_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of training images that each column is hidden from."
    )


class LossConfig(_Section):
    """What is minimised."""

    name: Literal["cross_entropy", "focal", "binary_cross_entropy", "ldam"] = Field(
        "cross_entropy", description="Loss."
    )
    gamma: float = Field(2.0, ge=0, le=10, description="Focusing parameter of the focal loss.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing.")
    margin: float = Field(0.5, gt=0, le=5, description="Largest margin of the LDAM loss.")


class BalanceConfig(_Section):
    """How rare classes are made to count, from the training folds only."""

    by: tuple[Literal["weights", "sampler", "repeat"], ...] = Field(
        ("weights",),
        description="weights: in the loss; sampler: drawn more often; repeat: shown several times "
        "an epoch; () for nothing.",
    )
    scheme: Literal["balanced", "sqrt", "effective", "power", "pos_weight"] = Field(
        "sqrt", description="Strength of weights and sampler by the count of a class."
    )
    power: float = Field(0.5, gt=0, le=2, description="k of scheme=power: (1/frequency)^k.")
    effective_beta: float = Field(
        0.999, gt=0, lt=1, description="Beta of scheme=effective (Cui et al. 2019)."
    )
    repeat: dict[str, int] = Field(
        {}, description="For by=repeat: class code -> times an image is shown an epoch; else 1."
    )


class AugmentConfig(_Section):
    """Random changes to training images: one resample, one colour transform, then effects."""

    flip: bool = Field(True, description="Horizontal and vertical flips, each with p = 0.5.")
    rotation: float = Field(180.0, ge=0, le=180, description="Rotation, up to +- degrees.")
    zoom: float = Field(0.15, ge=0, lt=0.9, description="Zoom, up to +- this share.")
    shift: float = Field(0.06, ge=0, le=0.5, description="Shift, up to +- this share of the side.")
    brightness: float = Field(0.05, ge=0, le=1, description="Brightness, +- share of the range.")
    contrast: float = Field(0.06, ge=0, le=1, description="Contrast factor, 1 +- this.")
    saturation: float = Field(0.06, ge=0, le=1, description="Saturation factor, 1 +- this.")
    hue: float = Field(0.01, ge=0, le=0.5, description="Hue rotation, +- turns.")
    blur: float = Field(0.0, ge=0, le=1, description="Share of images that are blurred.")
    blur_sigma: float = Field(1.5, gt=0, le=8, description="Largest sigma of the blur, pixels.")
    noise: float = Field(0.0, ge=0, le=1, description="Share of images that get noise.")
    noise_sd: float = Field(0.06, gt=0, le=0.5, description="Largest sd of the noise, of 255.")
    cutout: float = Field(0.0, ge=0, le=1, description="Share of images that lose a square.")
    cutout_side: float = Field(0.4, gt=0, lt=1, description="Side of that square, of the side.")
    mixup: float = Field(0.0, ge=0, le=1, description="Share of images that are mixed by MixUp.")
    mixup_alpha: float = Field(0.2, gt=0, le=10, description="Alpha of MixUp's beta distribution.")
    cutmix: float = Field(0.0, ge=0, le=1, description="Share of images that get a CutMix box.")
    cutmix_alpha: float = Field(1.0, gt=0, le=10, description="Alpha of CutMix's distribution.")
    randaugment: int = Field(
        0, ge=0, le=4, description="RandAugment operations an image, beside the above; 0 for none."
    )
    randaugment_magnitude: float = Field(
        0.5, ge=0, le=1, description="RandAugment's strength, share of each operation's range."
    )


class TrainConfig(_Section):
    """The recipe of one fold."""

    epochs: int = Field(12, ge=1, le=1000, description="Epochs, those with a frozen backbone too.")
    frozen_epochs: int = Field(1, ge=0, description="First epochs that train the head alone.")
    batch_size: int = Field(32, ge=1, le=4096, description="Images a step.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak rate of fine-tuning.")
    frozen_learning_rate: float = Field(3e-3, gt=0, description="Peak rate while frozen.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps that warm up.")
    schedule: Literal["cosine", "one_cycle", "step", "plateau", "constant"] = Field(
        "cosine", description="How the rate goes on after the warm-up."
    )
    decay: float = Field(0.1, gt=0, lt=1, description="Factor of schedule=step and =plateau.")
    decay_epochs: int = Field(
        3, ge=1, description="Epochs between steps, or without a better monitor for plateau."
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="Rate of a backbone stage, as a factor of the stage above it."
    )
    frozen_stages: int = Field(
        0, ge=0, le=5, description="First stages of the backbone that are never trained."
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay.")
    clip_norm: float | None = Field(1.0, gt=0, description="Global gradient norm limit.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Momentum of an average of the weights, scored beside them."
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 or float16 on CUDA by what the card has, else float32."
    )
    monitor: Literal["macro_auc", "balanced_accuracy", "macro_f1", "loss"] = Field(
        "macro_auc", description="Held-out metric that picks the best epoch and ends training."
    )
    checkpoint: Literal["best", "last", "ema"] = Field(
        "best",
        description="Weights of the best epoch, the last one, or the last average (train.ema). "
        "best has seen the held-out fold, the others have not. The report says which.",
    )
    keep: bool = Field(
        False, description="Keep best.keras, last.keras and ema.keras beside model.keras."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many epochs of fine-tuning with no better monitor."
    )
    fused: bool = Field(True, description="The native graph on the torch backend.")
    store_on_device: Literal["auto", "never"] = Field(
        "auto",
        description="auto: on torch, keep the image store on a GPU if it takes at most a quarter "
        "of the free memory; never: bring images there batch by batch.",
    )
    tensorboard: bool = Field(
        False, description="Write fold_K/tensorboard/ too (extra: tensorboard)."
    )


class DistilConfig(_Section):
    """What is learnt from another run's out-of-fold answers beside the labels."""

    teacher: str | None = Field(None, description="The run that teaches; null: labels alone.")
    weight: float = Field(
        0.5, gt=0, le=1, description="Share of the teacher's answer in an image's target."
    )
    temperature: float = Field(1.0, gt=0, le=100, description="Above 1 softens the answers.")


class PredictConfig(_Section):
    """How members answer."""

    views: Literal["none", "flips", "d4", "multi_scale", "multi_crop"] = Field(
        "flips", description="Test-time views, also used for the out-of-fold table."
    )
    combine: Literal["probability", "logit", "oof"] = Field(
        "probability", description="Mean of probabilities, of logits, or weighted by OOF score."
    )
    batch_size: int = Field(32, ge=1, le=4096, description="Images a forward pass.")
    precision: Literal["float32", "bfloat16", "int8"] = Field(
        "float32",
        description="Of ensemble-predict, as far as its engine has it; the out-of-fold table is "
        "always made in float32.",
    )
    early_exit: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Of ensemble-predict: an image gets no further views once the standard error "
        "of its probabilities is below this (0.03 saves about half); 0: every image gets all.",
    )
    calibration: Literal["temperature", "vector"] = Field(
        "temperature",
        description="Fitted on the out-of-fold table and applied to predictions: temperature keeps "
        "every predicted class, vector mends each class's probability and may change it.",
    )
    grad_cam: bool = Field(
        False, description="Draw one class-activation map a class into the run's figures."
    )


class Config(_Section):
    """A whole run."""

    seed: int = Field(42, ge=0, description="Seed of everything but the split and the demo data.")
    data: DataConfig = DataConfig()
    folds: FoldsConfig = FoldsConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    balance: BalanceConfig = BalanceConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    distil: DistilConfig = DistilConfig()
    predict: PredictConfig = PredictConfig()

    def to_yaml(self) -> str:
        """Every field as YAML; `load_config` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole config, hex."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
