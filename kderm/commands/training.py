"""`cv` and `train`: members, then the ensemble and the report."""

import contextlib
import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kderm import console, run_dir
from kderm.api.conclusion import SYNTHETIC, learn_likeness
from kderm.atomic import write_json, write_text
from kderm.commands.asked import command_line, read_config
from kderm.commands.pieces import describe, exclusive, is_demo
from kderm.commands.results import conclude
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.labels import label_space
from kderm.run_dir import RunDir
from kderm.runtime import check_backend
from kderm.storage.mirror import pull


def cross_validate(
    config_path: str | None,
    run_name: str | None,
    folds: int | None,
    overrides: Sequence[str],
    **how: Any,
) -> None:
    """`cv`: all folds, then the ensemble and the report.

    `how` they are trained: as `kderm.training.crossval.cross_validate` takes it.
    """
    if folds is not None:
        overrides = [*overrides, f"folds.k={folds}"]
    config, run = read_config("cv", config_path, run_name, overrides)
    check_folds_file(config, run)
    check_backend()
    from kderm.training.crossval import cross_validate as train_all

    with exclusive(run, "cv"):
        train_all(config, run, begin=partial(announce, config, run), show=describe, **how)
        conclude(run)
        learn_likeness(run)
    images = unseen_demo(config) if is_demo(config) else "YOUR_IMAGES/"
    again = shlex.join(["ensemble-predict", str(images), "--run", run.name])
    console.say(f"\nNext: {console.program()} {again}")


def with_student(
    config_path: str | None,
    run_name: str | None,
    folds: int | None,
    overrides: Sequence[str],
    unlabelled: str,
    threshold: float | None,
    **how: Any,
) -> None:
    """`cv --unlabelled`: the teacher, its pseudo-labels, and a student of both."""
    check_backend()
    from kderm.ensemble.inputs import find_inputs
    from kderm.ensemble.pseudo import THRESHOLD, check_threshold

    config, teacher = read_config("cv", config_path, run_name, overrides)
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    threshold = THRESHOLD if threshold is None else threshold
    check_threshold(threshold, len(labels))
    student = RunDir(teacher.path.with_name(f"{teacher.name}_student"))
    pull(student.path)  # what another machine has begun
    asked = {"threshold": threshold, "unlabelled": str(Path(unlabelled).resolve())}
    refuse_other_lesson(student, asked)
    find_inputs([unlabelled], labels)  # refuses what is not there before anything is trained
    cross_validate(config_path, run_name, folds, overrides, **how)
    if not student.is_started:
        teach(teacher, student, unlabelled, asked)
    console.say(f"\nThe student, {student.name}:")
    lesson = f"data.pseudo_labels={json.dumps(str(student.pseudo_labels))}"
    cross_validate(config_path, student.name, folds, [*overrides, lesson], **how)


def refuse_other_lesson(student: RunDir, asked: dict) -> None:
    """Refuse to continue a student that began with another threshold or other images."""
    if not student.is_started:
        return
    before = json.loads(student.lesson.read_text()) if student.lesson.exists() else {}
    if before != asked:
        raise UserError(
            f"The student {student.name!r} began with {before}. Received: {asked}. Repeat the "
            "command with the old values to continue it, or give the new teacher and student a "
            "name of their own with --run NAME."
        )


def teach(teacher: RunDir, student: RunDir, unlabelled: str, asked: dict) -> None:
    """Pseudo-label by the teacher's ensemble; the student keeps its own copy of the table."""
    from kderm.ensemble.pseudo import pseudo_label

    with console.progress("predicting the unlabelled images") as report:
        found = pseudo_label(teacher, [unlabelled], threshold=asked["threshold"], progress=report)
    console.say(f"\n{found}")
    write_text(student.pseudo_labels, found.path.read_text(encoding="utf-8"))
    write_json(student.lesson, asked)


def train(
    config_path: str | None, run_name: str | None, fold: int, overrides: Sequence[str]
) -> None:
    """`train --fold K`: one member."""
    config, run = read_config(f"train --fold {fold}", config_path, run_name, overrides)
    check_folds_file(config, run)
    check_backend()
    from kderm.training.crossval import cross_validate as train_some

    # Folds of one run may be trained side by side, by an array job of a cluster: each waits for the
    # others only while what they share is made.
    with contextlib.ExitStack() as shared:
        shared.enter_context(exclusive(run, "train", patient=True))
        begin = partial(announce, config, run)
        train_some(config, run, folds=[fold], begin=begin, show=describe, prepared=shared.close)
    left = [number for number in range(config.folds.k) if not run.fold(number).is_done]
    if left:
        options = command_line(f"train --fold {left[0]}", config_path, run_name, overrides)
        console.say(f"\nFolds left: {', '.join(map(str, left))}. Next: {options}")
    else:
        evaluate = shlex.join(["evaluate", run.name])
        console.say(f"\nAll folds are finished. Next: {console.program()} {evaluate}")


def check_folds_file(config: Config, run: RunDir) -> None:
    """Refuse a fold table that is not there before images are decoded for it.

    A run that has begun has its own copy.
    """
    path = config.folds.file
    if path is not None and not run.is_started and not path.is_file():
        raise UserError(
            f"Expected the fold table that folds.file names. Received: {path}, which is not there "
            f"(looked from {Path.cwd()}). Correct the name, or make it with the command prepare "
            "and the same options."
        )


def announce(config: Config, run: RunDir) -> None:
    """Say what begins, loudly so where the data are not real."""
    backend = check_backend()
    if is_demo(config):
        console.say(f"*** {SYNTHETIC} ***")
    console.say(
        f"run {run.name} in {run.path}/ on {backend}: {config.model.preset} at {config.image.size} "
        f"px, {config.folds.k} folds, {config.train.epochs} epochs"
    )


def unseen_demo(config: Config) -> Path:
    """A second demo data set with another seed, with its labels, for trying prediction."""
    from kderm.data.datasets.demo import DEMO_SEED, write_demo

    size = config.data.demo_size
    seed = DEMO_SEED + 1
    root = run_dir.demo_data_dir(f"unseen-{size}-seed{seed}")
    write_demo(root, 105, seed=seed, height=size)
    return root / "HAM10000_metadata.csv"
