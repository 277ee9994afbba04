"""One fold: build a member, train it in two phases, and write its model and held-out predictions.

Reads a `Prepared` data set, writes `runs/<run>/fold_<k>/`. `done.json` comes last.
"""

import keras
import numpy as np

from kderm import console
from kderm.config import Config
from kderm.data.balance import class_weights
from kderm.data.batches import RowsOf, TrainBatches
from kderm.data.prepare import Prepared
from kderm.data.views import view_transforms
from kderm.evaluation.metrics import epoch_metrics
from kderm.models.classifier import (
    build_classifier,
    set_backbone_trainable,
)
from kderm.models.forward import Forward, warped
from kderm.models.losses import build_loss
from kderm.run_dir import FoldDir, RunDir
from kderm.runtime import (
    choose_precision,
    is_out_of_memory,
    precision_policy,
    release_memory,
    seed_for,
)
from kderm.training.callbacks import EpochEnd, SeedEpoch, StepProgress, StopOnNan
from kderm.training.member import finish
from kderm.training.optimizer import build_optimizer, set_iterations
from kderm.training.split import FoldData, split
from kderm.training.state import (
    FoldState,
    load_optimizer,
    load_state,
    save_state,
)


def train_fold(config: Config, data: Prepared, run: RunDir, fold: int) -> None:
    """Train the member that leaves out `fold`, from its last whole epoch if it was interrupted."""
    place = run.fold(fold)
    if place.is_done:
        console.say(f"fold {fold}: finished before, kept")
        return
    release_memory()
    keras.utils.set_random_seed(seed_for(config.seed, fold, "weights"))
    precision = choose_precision(config.train.precision)
    images = split(data, fold)
    classifier = new_classifier(config, len(data.labels), precision)
    state = begin(place, classifier, config.train.batch_size)
    if state.epoch:
        console.say(f"fold {fold}: continuing after epoch {state.epoch}")
    forward = Forward(
        classifier, config.image.stored_shape, config.predict.batch_size, fused=config.train.fused
    )
    for phase, end in phases(config):
        while state.epoch < end and not state.stopped:
            try:
                run_phase(config, data, images, place, fold, classifier, forward, state, phase, end)
            except Exception as error:
                if not is_out_of_memory(error) or state.micro_batch < 2:
                    raise
                smaller = state.micro_batch // 2
                state = load_state(place.state, classifier.variables)
                state.micro_batch = smaller
            else:
                continue
            # Outside of the handler: its traceback would keep the failed step's tensors alive.
            console.warn(
                f"fold {fold}: the device's memory is full; going on with {smaller} images a step, "
                f"accumulating gradients to keep the batch of {config.train.batch_size}"
            )
            release_memory()
    finish(config, data, images, place, fold, classifier, state, precision)


def new_classifier(config: Config, classes: int, precision: str) -> keras.Model:
    """A member with its starting weights, its layers computing in `precision`."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision_policy(precision))
    try:
        return build_classifier(
            config.model.preset,
            config.image.size,
            classes,
            pooling=config.model.pooling,
            dropout=config.model.dropout,
            weights=config.model.weights,
        )
    finally:
        keras.config.set_dtype_policy(previous)


def begin(place: FoldDir, classifier: keras.Model, batch_size: int) -> FoldState:
    """The state after the last whole epoch, loaded into the classifier; a new one at the start."""
    if place.state.exists():
        return load_state(place.state, classifier.variables)
    state = FoldState(micro_batch=batch_size)
    save_state(place.state, state, classifier.variables)
    return state


def phases(config: Config) -> list[tuple[str, int]]:
    """(name, last epoch) of each phase: the head alone first, then everything."""
    frozen = min(config.train.frozen_epochs, config.train.epochs)
    return [("frozen", frozen), ("fine_tune", config.train.epochs)]


def run_phase(
    config: Config,
    data: Prepared,
    images: FoldData,
    place: FoldDir,
    fold: int,
    classifier: keras.Model,
    forward: Forward,
    state: FoldState,
    phase: str,
    end: int,
) -> None:
    """Train from `state` to epoch `end`, changing `state` and the classifier in place."""
    train = config.train
    weights = class_weights(
        images.train_labels,
        len(data.labels),
        config.loss.class_weights,
        effective_beta=config.loss.effective_beta,
    )
    loss = build_loss(
        config.loss.name, gamma=config.loss.gamma, label_smoothing=config.loss.label_smoothing
    )
    batches = TrainBatches(
        data.store.images,
        images.train,
        images.train_labels,
        weights[images.train_labels],
        batch_size=state.micro_batch,
        augment=config.augment.model_dump(),
        seed=config.seed,
        fold=fold,
    )
    set_backbone_trainable(classifier, phase == "fine_tune")
    first = 0 if phase == "frozen" else min(train.frozen_epochs, train.epochs)
    optimizer = build_optimizer(
        peak=train.frozen_learning_rate if phase == "frozen" else train.learning_rate,
        steps=len(batches) * (end - first),
        warmup=train.warmup,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        ema=train.ema,
        accumulate=-(-train.batch_size // state.micro_batch),
    )
    model = warped(classifier, config.image.stored_shape)
    model.compile(optimizer=optimizer, loss=loss, jit_compile="auto")
    model.optimizer.build(model.trainable_variables)
    if state.phase == phase:
        load_optimizer(place.state, model.optimizer.variables)
        set_iterations(model.optimizer, (state.epoch - first) * len(batches))

    def score() -> dict[str, float]:
        return held_out_scores(forward, data, images, loss, weights)

    def say(row: dict) -> None:
        console.say(
            f"fold {fold} epoch {row['epoch']}/{config.train.epochs} ({phase}): "
            f"loss {row['loss']:.4f}, held-out AUC {row['val_macro_auc']:.4f}, "
            f"balanced accuracy {row['val_balanced_accuracy']:.4f}, {row['seconds']:.0f} s"
        )

    epoch_end = EpochEnd(
        state,
        phase=phase,
        variables=classifier.variables,
        score=score,
        monitor=train.monitor,
        checkpoint=train.checkpoint,
        patience=train.patience,
        state_path=place.state,
        chosen_path=place.chosen,
        say=say,
    )
    with console.progress(f"fold {fold} {phase}") as report:
        model.fit(
            batches,
            initial_epoch=state.epoch,
            epochs=end,
            shuffle=False,
            verbose=0,
            callbacks=[
                StopOnNan(),
                StepProgress(report, len(batches)),
                SeedEpoch(
                    batches,
                    classifier.variables,
                    lambda epoch, layer: seed_for(config.seed, fold, "dropout", epoch, layer),
                ),
                epoch_end,
            ],
        )


def held_out_scores(
    forward: Forward, data: Prepared, images: FoldData, loss: keras.Loss, weights: np.ndarray
) -> dict[str, float]:
    """Loss and metrics of the held-out fold under the plain view, as history columns."""
    plain = view_transforms("none", forward.frame)
    with console.progress("scoring the held-out fold") as report:
        frames = RowsOf(data.store.images, images.held_out)
        probabilities = forward(frames, plain, report)[:, 0]
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    value = loss(images.held_out_labels, logits, sample_weight=weights[images.held_out_labels])
    scores = epoch_metrics(images.held_out_labels, probabilities)
    return {
        "val_loss": float(keras.ops.convert_to_numpy(value)),
        **{f"val_{name}": float(score) for name, score in scores.items()},
    }
