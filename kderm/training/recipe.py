"""Whether the parts of a recipe fit each other, before anything is decoded, written or trained."""

from collections.abc import Callable

import numpy as np

from kderm.config.schema import Config
from kderm.data.augment import check_mixing
from kderm.data.balance import check_balance, plan_balance, stacking_warnings
from kderm.data.metadata import check_columns
from kderm.data.prepare import Prepared
from kderm.errors import UserError
from kderm.labels import label_space
from kderm.training.event_log import check_tensorboard


def check_recipe(config: Config) -> None:
    """Refuse a config whose parts contradict each other.

    Raises:
        UserError: balancing schemes that cancel, a loss for two classes with more of them, a
            metadata column that leaks the label, averages that are asked for and not kept, an
            extra that is not installed.
    """
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    balance, loss, train = config.balance, config.loss, config.train
    check_balance(labels.codes, by=balance.by, scheme=balance.scheme, repeat=balance.repeat)
    if loss.name == "binary_cross_entropy" and len(labels) != 2:
        raise UserError(
            "loss.name=binary_cross_entropy is for two classes. Received: the label space "
            f"{labels.name} with {len(labels)}. Choose loss.name=cross_entropy, or data.labels="
            "binary."
        )
    if loss.name == "ldam" and loss.label_smoothing:
        raise UserError(
            "loss.name=ldam has a margin in place of label smoothing. Received: "
            f"loss.label_smoothing={loss.label_smoothing}. Set it to 0, or choose another loss."
        )
    check_columns(config.model.metadata)
    if train.checkpoint == "ema" and train.ema is None:
        raise UserError(
            "train.checkpoint=ema keeps the average of the weights, so train.ema must give its "
            "momentum, for example train.ema=0.99. Received: none."
        )
    if train.tensorboard:
        check_tensorboard()
    check_mixing(config.augment.mixup, config.augment.cutmix)


# Option -> the options that switch it on, and whether they do.
_NEEDS: dict[str, tuple[str, Callable[[Config], bool]]] = {
    "loss.gamma": ("loss.name=focal", lambda c: c.loss.name == "focal"),
    "loss.margin": ("loss.name=ldam", lambda c: c.loss.name == "ldam"),
    "balance.scheme": (
        "weights or sampler in balance.by",
        lambda c: bool({"weights", "sampler"} & set(c.balance.by)),
    ),
    "balance.power": ("balance.scheme=power", lambda c: c.balance.scheme == "power"),
    "balance.effective_beta": (
        "balance.scheme=effective",
        lambda c: c.balance.scheme == "effective",
    ),
    "augment.blur_sigma": ("augment.blur", lambda c: c.augment.blur > 0),
    "augment.noise_sd": ("augment.noise", lambda c: c.augment.noise > 0),
    "augment.cutout_side": ("augment.cutout", lambda c: c.augment.cutout > 0),
    "augment.mixup_alpha": ("augment.mixup", lambda c: c.augment.mixup > 0),
    "augment.cutmix_alpha": ("augment.cutmix", lambda c: c.augment.cutmix > 0),
    "augment.randaugment_magnitude": (
        "augment.randaugment",
        lambda c: c.augment.randaugment > 0,
    ),
    "distil.weight": ("distil.teacher", lambda c: c.distil.teacher is not None),
    "distil.temperature": ("distil.teacher", lambda c: c.distil.teacher is not None),
    "model.metadata_dropout": ("model.metadata", lambda c: bool(c.model.metadata)),
    "train.warmup": (
        "train.schedule=cosine, step or constant",
        lambda c: c.train.schedule in ("cosine", "step", "constant"),
    ),
    "train.decay": (
        "train.schedule=step or plateau",
        lambda c: c.train.schedule in ("step", "plateau"),
    ),
    "train.decay_epochs": (
        "train.schedule=step or plateau",
        lambda c: c.train.schedule in ("step", "plateau"),
    ),
}


def idle_options(config: Config) -> list[str]:
    """What to say of options that were changed and have no effect in this recipe."""
    said = []
    for option, (switch, is_on) in _NEEDS.items():
        section, name = option.split(".")
        value = getattr(getattr(config, section), name)
        default = getattr(getattr(Config(), section), name)
        if value != default and not is_on(config):
            said.append(f"{option}={value} has no effect here: it takes {switch}")
    return said


def balance_warnings(config: Config, data: Prepared) -> list[str]:
    """What to say where several choices push towards rare classes, with what they come to."""
    table = data.folds.table
    position = {code: index for index, code in enumerate(data.labels.codes)}
    labels = table.loc[table["fold"] != 0, "label"].map(position).to_numpy(dtype=np.int64)
    plan = plan_balance(labels, data.labels.codes, **config.balance.model_dump())
    return stacking_warnings(
        plan,
        data.labels.codes,
        by=config.balance.by,
        focal_gamma=config.loss.gamma if config.loss.name == "focal" else 0.0,
        mixing=config.augment.mixup + config.augment.cutmix,
    )
