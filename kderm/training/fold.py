"""One fold: build a member, train its head, then all of it, and hand the chosen epoch to `member`.

Reads a `Prepared` data set, writes `runs/<run>/fold_<k>/`. `done.json` comes last.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
import pandas as pd

from kderm import console
from kderm.atomic import write_csv
from kderm.config.schema import Config, TrainConfig
from kderm.data.augment import uses_effects
from kderm.data.balance import BalancePlan, plan_balance
from kderm.data.batches import RowsOf, TrainBatches
from kderm.data.device_frames import FrameSource, training_frames
from kderm.data.metadata import MetadataSpec, fit_metadata
from kderm.data.prepare import Prepared
from kderm.data.pseudo import Frames
from kderm.data.views import view_transforms
from kderm.errors import UserError
from kderm.evaluation.metrics import epoch_metrics
from kderm.models.classifier import build_classifier, set_backbone_trainable
from kderm.models.forward import Forward, warped
from kderm.models.losses import build_loss
from kderm.models.stages import rate_factors
from kderm.run_dir import FoldDir, RunDir
from kderm.runtime import (
    choose_precision,
    is_out_of_memory,
    precision_policy,
    release_memory,
    seed_for,
)
from kderm.training.callbacks import EpochEnd, SeedEpoch, StepProgress, StopOnNan, diverged
from kderm.training.event_log import event_log
from kderm.training.member import finish
from kderm.training.optimizer import build_optimizer, set_iterations
from kderm.training.split import FoldData, split
from kderm.training.state import FoldState, load_optimizer, load_state, save_state
from kderm.training.teacher import soft_targets


@dataclass(frozen=True)
class Phase:
    """Epochs `first` (0-based) up to but not including `end`, with or without the backbone."""

    name: str
    first: int
    end: int


@dataclass(frozen=True)
class Task:
    """What stays the same while one fold trains."""

    config: Config
    number: int
    place: FoldDir
    frames: np.ndarray | Frames
    training_frames: FrameSource
    images: FoldData
    metadata: MetadataSpec | None
    plan: BalancePlan
    precision: str
    loss: keras.Loss
    classifier: keras.Model
    forward: Forward
    after_epoch: Callable[[int], None] = lambda epoch: None


def train_fold(
    config: Config,
    data: Prepared,
    run: RunDir,
    fold: int,
    *,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train the member that leaves out `fold`, from its last whole epoch if it was interrupted.

    `after_epoch` hears how many epochs are finished, each time when all of one is on the disk.
    """
    place = run.fold(fold)
    place.sweep()
    if place.is_done:
        console.say(f"fold {fold}: finished before, kept")
        return
    keras.utils.clear_session(free_memory=False)  # layer names as in a fold trained alone
    release_memory()
    precision = choose_precision(config.train.precision)
    task = new_task(config, data, place, fold, precision, lesson(config, data, run))
    task = replace(task, after_epoch=after_epoch)
    state = begin(task)
    if state.epoch:
        console.say(f"fold {fold}: continuing after epoch {state.epoch}")
    for phase in phases(config):
        while state.epoch < phase.end and not state.stopped:
            state = run_phase(task, state, phase)
    finish(
        config,
        data,
        task.images,
        place,
        fold,
        task.classifier,
        state,
        precision,
        metadata=task.metadata,
    )


def kept_weights(train: TrainConfig) -> list[str]:
    """The epochs whose weights are written while a fold trains: the checkpoint's, or all."""
    if not train.keep:
        return [train.checkpoint]
    return ["best", "last", *(["ema"] if train.ema else [])]


def lesson(config: Config, data: Prepared, run: RunDir) -> np.ndarray | None:
    """What a teacher says of the images of the fold table, float32 (n, k); None without one."""
    if config.distil.teacher is None:
        return None
    table = data.folds.table
    return soft_targets(
        run,
        data.labels,
        table["image_id"].tolist(),
        table["label"].map(data.labels.index).to_numpy(),
        weight=config.distil.weight,
        temperature=config.distil.temperature,
    )


def new_task(
    config: Config,
    data: Prepared,
    place: FoldDir,
    fold: int,
    precision: str,
    shares: np.ndarray | None = None,
) -> Task:
    """The fold's images, loss and network, the network with its starting weights."""
    metadata = None
    if config.model.metadata:
        metadata = fit_metadata(data.manifest.table, config.model.metadata)
    images = split(data, fold, metadata, shares)
    classes = len(data.labels)
    keras.utils.set_random_seed(seed_for(config.seed, fold, "weights"))
    classifier = new_classifier(config, classes, metadata.width if metadata else 0, precision)
    frames = frames_of(data)
    return Task(
        config=config,
        number=fold,
        place=place,
        frames=frames,
        training_frames=training_frames(frames, config.train.store_on_device),
        images=images,
        metadata=metadata,
        plan=plan_balance(images.train_labels, data.labels.codes, **config.balance.model_dump()),
        precision=precision,
        loss=build_loss(
            **config.loss.model_dump(),
            counts=np.bincount(images.train_labels, minlength=classes),
        ),
        classifier=classifier,
        forward=Forward(
            classifier,
            config.image.stored_shape,
            config.predict.batch_size,
            fused=config.train.fused,
        ),
    )


def frames_of(data: Prepared) -> np.ndarray | Frames:
    """The store's frames, and behind them the pseudo-labelled ones where there are any."""
    if data.pseudo is None:
        return data.store.images
    return Frames(data.store.images, data.pseudo)


def new_classifier(
    config: Config, classes: int, metadata_width: int, precision: str
) -> keras.Model:
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
            dropout_samples=config.model.dropout_samples,
            metadata_width=metadata_width,
            weights=config.model.weights,
        )
    finally:
        keras.config.set_dtype_policy(previous)


def begin(task: Task) -> FoldState:
    """The state after the last whole epoch, loaded into the classifier; a new one at the start."""
    if task.place.state.exists():
        return load_state(task.place.state, task.classifier.variables)
    state = FoldState(micro_batch=min(task.config.train.batch_size, len(task.images.train)))
    save_state(task.place.state, state, task.classifier.variables)
    return state


def phases(config: Config) -> list[Phase]:
    """The head alone first, then everything."""
    epochs = config.train.epochs
    frozen = min(config.train.frozen_epochs, epochs)
    return [Phase("frozen", 0, frozen), Phase("fine_tune", frozen, epochs)]


def run_phase(task: Task, state: FoldState, phase: Phase) -> FoldState:
    """Train to the end of `phase`, or until the device's memory is full.

    Returns:
        The state to go on with: after a full memory that of the last whole epoch, with half the
        images a step.
    """
    model, batches = compile_phase(task, state, phase)
    try:
        with (
            console.progress(f"fold {task.number} {phase.name}") as report,
            event_log(task.config.train.tensorboard, task.place.tensorboard, state) as log,
        ):
            model.fit(
                batches,
                initial_epoch=state.epoch,
                epochs=phase.end,
                shuffle=False,
                verbose=0,
                callbacks=phase_callbacks(task, state, phase, model, batches, report, log),
            )
        return state
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: its traceback would keep the failed step's tensors alive, and these
    # names the optimizer's moments.
    del model, batches
    return with_smaller_batch(task, state)


def compile_phase(task: Task, state: FoldState, phase: Phase) -> tuple[keras.Model, TrainBatches]:
    """The network with its optimizer as it stood after the last epoch, and its batches."""
    config, train = task.config, task.config.train
    augment = config.augment.model_dump()
    batches = TrainBatches(
        task.training_frames,
        task.images.train,
        task.images.train_labels,
        classes=len(task.plan.weights),
        plan=task.plan,
        batch_size=state.micro_batch,
        augment=augment,
        seed=config.seed,
        fold=task.number,
        shares=task.images.train_shares,
        metadata=task.images.train_metadata,
        metadata_spec=task.metadata,
        metadata_dropout=config.model.metadata_dropout,
    )
    fine_tune = phase.name == "fine_tune"
    set_backbone_trainable(task.classifier, fine_tune, frozen_stages=train.frozen_stages)
    model = warped(task.classifier, config.image.stored_shape, effects=uses_effects(augment))
    model.compile(
        optimizer=build_optimizer(
            peak=train.learning_rate if fine_tune else train.frozen_learning_rate,
            steps=len(batches) * (phase.end - phase.first),
            warmup=train.warmup,
            schedule=train.schedule,
            decay=train.decay,
            decay_steps=len(batches) * train.decay_epochs,
            weight_decay=train.weight_decay,
            clip_norm=train.clip_norm,
            ema=train.ema,
            accumulate=accumulated_steps(train.batch_size, state.micro_batch),
            factors=rate_factors(task.classifier, train.layer_decay) if fine_tune else None,
            scale_loss=task.precision == "float16",
        ),
        loss=task.loss,
    )
    model.optimizer.build(model.trainable_variables)
    if state.phase == phase.name:
        saved = load_optimizer(task.place.state, model.optimizer.variables)
        if saved != state.micro_batch:
            set_iterations(model.optimizer, (state.epoch - phase.first) * len(batches))
    return model, batches


def accumulated_steps(batch_size: int, micro_batch: int) -> int:
    """Steps whose gradients make one update, so that an update sees about `batch_size` images."""
    return max(1, round(batch_size / micro_batch))


def phase_callbacks(
    task: Task,
    state: FoldState,
    phase: Phase,
    model: keras.Model,
    batches: TrainBatches,
    report: console.Progress,
    log: Callable[[dict], None],
) -> list[keras.callbacks.Callback]:
    """What happens around each step and epoch, in order."""
    train = task.config.train

    def say(row: dict) -> None:
        console.say(
            f"fold {task.number} epoch {row['epoch']}/{train.epochs} ({phase.name}): "
            f"loss {row['loss']:.4f}, held-out AUC {row['val_macro_auc']:.4f}, "
            f"balanced accuracy {row['val_balanced_accuracy']:.4f}, {row['seconds']:.0f} s"
        )

    def write(row: dict) -> None:
        write_csv(task.place.history, pd.DataFrame(state.history))

    lowers = train.schedule == "plateau" and phase.name == "fine_tune"
    return [
        StopOnNan(),
        StepProgress(report, len(batches)),
        SeedEpoch(
            batches,
            model.variables,
            lambda epoch, part: seed_for(task.config.seed, task.number, "dropout", epoch, part),
        ),
        EpochEnd(
            state,
            phase=phase.name,
            variables=task.classifier.variables,
            score=lambda: held_out_scores(task),
            monitor=train.monitor,
            checkpoint=train.checkpoint,
            keep=kept_weights(train),
            patience=train.patience,
            plateau=(train.decay, train.decay_epochs) if lowers else None,
            place=task.place,
            tell=[say, write, log, lambda row: task.after_epoch(row["epoch"])],
        ),
    ]


def with_smaller_batch(task: Task, failed: FoldState) -> FoldState:
    """The last whole epoch's state, to go on with half the images a step.

    Raises:
        UserError: not even one image fits.
    """
    if failed.micro_batch == 1:
        raise UserError(
            "The device's memory is full with one image a step. Choose a smaller image.size or a "
            "smaller model.preset, in a new run (--run NAME)."
        )
    state = load_state(task.place.state, task.classifier.variables)
    state.micro_batch = failed.micro_batch // 2
    effective = state.micro_batch * accumulated_steps(
        task.config.train.batch_size, state.micro_batch
    )
    console.warn(
        f"fold {task.number}: the device's memory is full; going on with {state.micro_batch} "
        f"images a step, accumulating gradients so that an update still sees {effective} images"
    )
    release_memory()
    return state


def held_out_scores(task: Task) -> dict[str, float]:
    """Loss and metrics of the held-out fold under the plain view.

    Raises:
        UserError: the network's answers are no numbers any more.
    """
    labels = task.images.held_out_labels
    plain = view_transforms("none", task.forward.frame)
    with console.progress("scoring the held-out fold") as report:
        probabilities = task.forward(
            RowsOf(task.frames, task.images.held_out),
            plain,
            report,
            metadata=task.images.held_out_metadata,
        )[:, 0]
    if not np.isfinite(probabilities).all():
        raise diverged("The network's answers are no numbers any more")
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    value = task.loss(labels, logits, sample_weight=task.plan.weights[labels])
    scores = epoch_metrics(labels, probabilities)
    return {
        "loss": float(keras.ops.convert_to_numpy(value)),
        **{name: float(score) for name, score in scores.items()},
    }
