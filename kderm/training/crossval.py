"""All folds of a run, or some: freeze the config, prepare the data, train what is missing."""

from collections.abc import Callable, Sequence
from functools import partial

from kderm import console
from kderm.atomic import write_json, write_text
from kderm.config.reading import config_difference, load_config
from kderm.config.schema import Config
from kderm.data.checked import check_places
from kderm.data.prepare import Prepared, prepare
from kderm.errors import UserError
from kderm.models.weights import check_preset
from kderm.run_dir import RunDir
from kderm.runtime import environment_record, keep_freed_memory
from kderm.storage.mirror import origin_of, pull, push
from kderm.training.attempts import kept, settle
from kderm.training.fold_lock import fold_lock
from kderm.training.launchers.processes import train_side_by_side
from kderm.training.launchers.shares import leave_room_on_the_gpu
from kderm.training.recipe import balance_warnings, check_recipe, idle_options
from kderm.training.teacher import find_teacher, freeze_teacher


def cross_validate(
    config: Config,
    run: RunDir,
    *,
    folds: Sequence[int] | None = None,
    jobs: int = 1,
    launcher: str = "local",
    address: str | None = None,
    begin: Callable[[], None] | None = None,
    show: Callable[[Prepared], None] | None = None,
    prepared: Callable[[], None] | None = None,
) -> None:
    """Train the members of `run` that are not finished yet.

    Args:
        config: the whole config; a run that was started with another one is refused.
        run: where everything goes.
        folds: the folds to train; None for all.
        jobs: folds at a time, each in a process of its own; 1 trains in this one.
        launcher: "local", or "ray": on a Ray cluster, as many folds at a time as it has room for.
        address: of that cluster; see `kderm.cluster.connection.connected`.
        begin: called when nothing is wrong that the config and a look at the places tell.
        show: told the prepared data before training begins.
        prepared: called when all that folds share is on the disk: what follows is written into the
            folders of `folds` alone.

    Raises:
        UserError: another config, a fold out of range, anything wrong with the data, or folds of
            several jobs that failed.
    """
    wanted = list(range(config.folds.k)) if folds is None else list(folds)
    outside = [fold for fold in wanted if not 0 <= fold < config.folds.k]
    if outside:
        raise UserError(
            f"Folds are numbered 0 to {config.folds.k - 1} (folds.k={config.folds.k}). "
            f"Received: {', '.join(map(str, outside))}."
        )
    if jobs > 1:
        leave_room_on_the_gpu()
    refuse_other_config(config, run)
    check_recipe(config)
    check_places(config)
    # The network is asked for weights only when it is known that there are images.
    weights = partial(check_preset, config.model.preset, config.image.size, config.model.weights)
    weights(network=False)
    if config.distil.teacher is not None and not run.teacher.is_file():
        find_teacher(config.distil.teacher)
    if begin is not None:
        begin()
    data = prepare(config, run, make_folds_file=False, before_decoding=weights)
    if not run.is_started:
        write_json(run.environment, environment_record())
        write_text(run.config, config.to_yaml())
        if config.distil.teacher is not None:
            follow(config.distil.teacher, data, run)
            console.say(f"learning from the answers of {config.distil.teacher} beside the labels")
    if show is not None:
        show(data)
    for warning in [*idle_options(config), *balance_warnings(config, data)]:
        console.warn(warning)
    push(run.path)
    if prepared is not None:
        prepared()
    if launcher == "ray":
        train_elsewhere(data, run, wanted, address)
    else:
        train_all(config, data, run, wanted, jobs)
    pull(run.path)  # another machine may have finished a fold meanwhile


def train_elsewhere(data: Prepared, run: RunDir, folds: Sequence[int], address: str | None) -> None:
    """Train those of `folds` that are not finished on a Ray cluster."""
    missing = unfinished(run, folds)
    if missing:
        from kderm.training.launchers.cluster_folds import train_on_cluster

        train_on_cluster(data, run, missing, address)


def train_all(config: Config, data: Prepared, run: RunDir, folds: Sequence[int], jobs: int) -> None:
    """Train `folds` one after another in this process, or `jobs` at a time in their own."""
    if min(jobs, sum(not run.fold(fold).is_done for fold in folds)) > 1:
        train_side_by_side(data, run, unfinished(run, folds), jobs)
        return
    from kderm.training.fold import train_fold

    keep_freed_memory()
    for fold in folds:
        with fold_lock(run, fold), kept(run, fold) as after_epoch:
            train_fold(config, data, run, fold, after_epoch=after_epoch)


def unfinished(run: RunDir, folds: Sequence[int]) -> list[int]:
    """Those of `folds` that are not finished; says which are."""
    missing = [fold for fold in folds if not run.fold(fold).is_done]
    for fold in sorted(set(folds) - set(missing)):
        console.say(f"fold {fold}: finished before, kept")
        settle(origin_of(run.path), run, fold)
    return missing


def follow(teacher: str, data: Prepared, run: RunDir) -> None:
    """Freeze what the run learns from; say how many images have no answer of the teacher."""
    unknown = freeze_teacher(teacher, run, data.labels, data.folds.table["image_id"].tolist())
    if unknown:
        console.say(f"{unknown} images are unknown to the teacher and learn by their label alone")


def refuse_other_config(config: Config, run: RunDir) -> None:
    """Refuse to continue a run with a config that differs from the one it was started with."""
    if not run.is_started:
        return
    if not run.config.is_file():
        raise UserError(
            f"Expected the config that the run {run.name!r} was started with. Received: "
            f"{run.path}, folds without a config.yaml. To begin the run anew remove that folder, "
            f"and what is left of it at {origin_of(run.path).url}/{run.name}."
        )
    difference = config_difference(load_config(run.config), config)
    if difference:
        changes = "\n".join(f"  {line}" for line in difference)
        raise UserError(
            f"The run {run.name!r} was started with another config (started with -> asked for):\n"
            f"{changes}\nGive the new experiment a name of its own with --run NAME, or repeat the "
            f"command with the old values to continue {run.name!r}."
        )
