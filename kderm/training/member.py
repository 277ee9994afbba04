"""The end of a fold: the chosen weights become a member file, its held-out table, `done.json`."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from kderm import console
from kderm.atomic import atomic_path, write_csv, write_json
from kderm.config.schema import Config
from kderm.data.batches import RowsOf
from kderm.data.metadata import MetadataSpec
from kderm.data.prepare import Prepared
from kderm.data.views import view_transforms
from kderm.evaluation.metrics import epoch_metrics
from kderm.models.averaging import average_views
from kderm.models.classifier import as_float32, load_classifier, set_backbone_trainable
from kderm.models.forward import Forward
from kderm.models.keras_archive import make_reproducible
from kderm.run_dir import FoldDir
from kderm.runtime import device_name
from kderm.training.split import FoldData
from kderm.training.state import FoldState, load_weights


def finish(
    config: Config,
    data: Prepared,
    images: FoldData,
    place: FoldDir,
    fold: int,
    classifier: keras.Model,
    state: FoldState,
    precision: str,
    *,
    metadata: MetadataSpec | None = None,
) -> None:
    """Save the chosen epoch as a plain float32 member, predict with that file, mark as done."""
    set_backbone_trainable(classifier, True)
    for path in sorted(place.path.glob("weights_*.npz")):
        kind = path.stem.removeprefix("weights_")
        load_weights(path, classifier.variables)
        if config.train.keep:
            save_member(place.kept(kind), classifier)
    load_weights(place.weights(config.train.checkpoint), classifier.variables)
    save_member(place.model, classifier)
    probabilities = predict_held_out(config, data, images, place)
    write_csv(place.oof, oof_table(data, images, fold, probabilities))
    history = pd.DataFrame(state.history)
    best = config.train.checkpoint == "best"
    chosen_epoch = state.best_epoch if best else state.epoch
    history["chosen"] = (history["epoch"] == chosen_epoch).astype(int)
    write_csv(place.history, history)
    write_json(
        place.done,
        {
            "fold": fold,
            "k": data.folds.k,
            "scores": epoch_metrics(images.held_out_labels, probabilities),
            "best_epoch": chosen_epoch,
            "epochs": state.epoch,
            "checkpoint": config.train.checkpoint,
            "monitor": config.train.monitor,
            "seconds": round(state.seconds, 1),
            "train_images": len(images.train),
            "held_out_images": len(images.held_out),
            "model_sha256": hashlib.sha256(place.model.read_bytes()).hexdigest(),
            "parameters": classifier.count_params(),
            "backend": keras.backend.backend(),
            "device": device_name(),
            "precision": precision,
            "batch_size": state.micro_batch,
            "config_digest": config.digest,
            "metadata": None if metadata is None else metadata.to_dict(),
        },
    )
    place.sweep()


def save_member(path: Path, classifier: keras.Model) -> None:
    """Write a member with every layer in float32, whatever it was trained in."""
    plain = as_float32(classifier)
    with atomic_path(path) as temporary:
        plain.save(temporary)
        make_reproducible(temporary)


def predict_held_out(
    config: Config, data: Prepared, images: FoldData, place: FoldDir
) -> np.ndarray:
    """Probabilities (n, k) of the held-out fold by the member as saved, averaged over its views."""
    frame = config.image.stored_shape
    member = Forward(
        load_classifier(place.model), frame, config.predict.batch_size, fused=config.train.fused
    )
    with console.progress("predicting the held-out fold") as report:
        frames = RowsOf(data.store.images, images.held_out)
        answers = member(  # (n, v, k)
            frames,
            view_transforms(config.predict.views, frame),
            report,
            metadata=images.held_out_metadata,
        )
    return average_views(answers, config.predict.combine)


def oof_table(
    data: Prepared, images: FoldData, fold: int, probabilities: np.ndarray
) -> pd.DataFrame:
    """The out-of-fold rows of one fold: ids, groups, what is known of the image, probabilities."""
    known = data.manifest.table.drop(columns=["path", "label"]).set_index("image_id")
    folds = data.folds.table.set_index("image_id").loc[images.held_out_ids, ["group_id", "label"]]
    table = known.loc[images.held_out_ids].join(folds).reset_index()
    table["fold"] = fold
    return table.assign(**{name: probabilities[:, i] for i, name in enumerate(data.labels.columns)})
