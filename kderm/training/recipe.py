"""Whether the parts of a recipe fit each other, before anything is decoded, written or trained."""

import numpy as np

from kderm.config import Config
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
    check_columns(config.model.metadata)
    if train.checkpoint == "ema" and train.ema is None:
        raise UserError(
            "train.checkpoint=ema keeps the average of the weights, so train.ema must give its "
            "momentum, for example train.ema=0.99. Received: none."
        )
    if train.tensorboard:
        check_tensorboard()
    check_mixing(config.augment.mixup, config.augment.cutmix)


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
