"""What a run's report says of how the run was made, in words.

Read from the run's config and records by `kderm.api.conclusion`.
"""

import pandas as pd

from kderm.api.conclusion import SYNTHETIC, read_json
from kderm.config.schema import Config
from kderm.evaluation.report.provenance import DERMOSCOPIC, PICTURES
from kderm.run_dir import RunDir

# How the pictures of each kind of data set were taken; "" where only their author knows.
MODALITIES = {
    "demo": "drawings by a program",
    "ham10000": DERMOSCOPIC,
    "isic2018": DERMOSCOPIC,
    "isic2019": DERMOSCOPIC,
    "isic2020": DERMOSCOPIC,
    "isic2024": "crops of total-body photographs",
    "pad_ufes20": "smartphone photographs",
    "isic_archive": "",
    "class_folders": "",
    "table": "",
}


def run_facts(run: RunDir, config: Config) -> dict[str, object]:
    """The facts table of the report."""
    environment = read_json(run.environment)
    done = [read_json(run.fold(fold).done) for fold in range(config.folds.k)]

    def over_folds(key: str) -> str:
        return " / ".join(sorted({str(fold[key]) for fold in done}))

    facts: dict[str, object] = {"synthetic data": SYNTHETIC} if config.data.is_demo else {}
    if warnings := lessons(config):
        facts["warnings"] = warnings
    return facts | {
        "data set": config.data.title,
        "backbone": config.model.preset,
        "weights": config.model.weights,
        "parameters": f"{done[0]['parameters']:,}",
        PICTURES: modality(config),
        "input": input_words(config),
        "loss": config.loss.name,
        "balancing": balancing(config),
        "epochs": f"{config.train.epochs} ({config.train.frozen_epochs} with a frozen backbone)",
        "views": config.predict.views,
        "device": over_folds("device"),
        "backend": over_folds("backend"),
        "precision": over_folds("precision"),
        "training time": f"{sum(fold['seconds'] for fold in done) / 60:.1f} min",
        "versions": f"kderm {environment['kderm']}, keras {environment['keras']}",
        "config digest": config.digest[:12],
    }


def checkpoint_choice(config: Config) -> str:
    """How the report is told that a fold's weights were chosen: best, last or stopped."""
    train = config.train
    if train.checkpoint == "best":
        return "best"
    # Both ask the held-out fold when to stop or to slow down.
    watched = train.patience is not None or train.schedule == "plateau"
    return "stopped" if watched else "last"


def input_words(config: Config) -> str:
    """What a member sees of an image."""
    size, (height, width) = config.image.size, config.image.stored_shape
    return f"{size} × {size} px, cut from images kept at {width} × {height} px (width × height)"


def modality(config: Config) -> str | None:
    """How the run's pictures were taken, as its kinds of data set tell; None where one does not."""
    kinds = [source.dataset for source in config.data.sources] or [config.data.dataset]
    told = dict.fromkeys(MODALITIES[kind] for kind in kinds)
    return None if "" in told else " and ".join(told)


def lessons(config: Config) -> list[str]:
    """What to say of scores that others' answers may have made too good."""
    said = []
    if config.data.pseudo_labels:
        from kderm.ensemble.pseudo import CAUTION

        said.append(f"Learnt from {config.data.pseudo_labels} besides. {CAUTION}")
    if config.distil.teacher:
        from kderm.training.teacher import CAUTION as TAUGHT

        said.append(f"Learnt from the answers of {config.distil.teacher} besides. {TAUGHT}")
    return said


def balancing(config: Config) -> str:
    """How rare classes were made to count, in a few words."""
    balance = config.balance
    if not balance.by:
        return "none"
    strength = {"repeat": ", ".join(f"{code} x{times}" for code, times in balance.repeat.items())}
    return " and ".join(f"{by} ({strength.get(by, balance.scheme)})" for by in balance.by)


def read_histories(run: RunDir, config: Config) -> dict[int, pd.DataFrame]:
    """Fold to history table, of the folds that have one."""
    paths = {fold: run.fold(fold).history for fold in range(config.folds.k)}
    return {fold: pd.read_csv(path) for fold, path in paths.items() if path.exists()}
