"""What a command line asks for: its config, its run, and the command that was meant instead.

Every command told to the user is made here, so that it can be copied as it stands.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.config.reading import load_config
from kderm.config.run_names import named_run
from kderm.config.schema import Config, DataConfig
from kderm.errors import UserError
from kderm.run_dir import WITHOUT_RUN, RunDir, runs_root


def read_config(
    verb: str, config_path: str | None, run_name: str | None, overrides: Sequence[str]
) -> tuple[Config, RunDir]:
    """The config that a command line asks for, and the run that it is for.

    Raises:
        UserError: as `load_config`; a folder, table, config or run where KEY=VALUE is expected is
            answered with the command that was meant.
    """
    for word in overrides:
        if "=" not in word and (meant := what_was_meant(verb, word, run_name)):
            raise UserError(
                "Expected a data set by --config FILE or by SECTION.KEY=VALUE. Received: "
                f"{word}, which is {meant}"
            )
    config = load_config(config_path, overrides)
    return config, named_run(config, config_path, run_name)


def what_was_meant(verb: str, word: str, run_name: str | None) -> str | None:
    """What a word is that is no override, with the command for it; None if it is nothing known."""
    path = Path(word).expanduser()
    for place in (path, runs_root() / word):
        if RunDir(place).config.is_file():
            return f"a run. Its data: {RunDir(place).command(verb)}"
    if path.is_dir():
        what, options = "a folder", folder_options(path)
    elif path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        what, options = "a config", ["--config", str(path)]
    elif path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        what, options = "a table", ["data.dataset=table", f"data.table={path}"]
    else:
        return None
    named = ["--run", run_name] if run_name and verb not in WITHOUT_RUN else []
    return f"{what}. Try: {console.program()} {shlex.join([*verb.split(), *named, *options])}"


def folder_options(root: Path) -> list[str]:
    """Overrides for the data set that seems to lie in a folder, by the names of what is in it."""
    from kderm.data.datasets import DATASETS, recognised

    dataset = recognised(root)
    options = [f"data.dataset={dataset}", f"data.root={root}"]
    native = DATASETS[dataset].native
    if native:
        return (
            options if native[0] == DataConfig().labels else [*options, f"data.labels={native[0]}"]
        )
    return [*options, *class_options(root)] if dataset == "class_folders" else options


def class_options(root: Path) -> list[str]:
    """Overrides for the label space that has all classes of class folders, or for their own."""
    from kderm.data.datasets.class_folders import class_names
    from kderm.labels import LABEL_SPACES

    names = class_names(root)
    for name, labels in LABEL_SPACES.items():
        if all(labels.resolve(each) for each in names):
            return [] if name == DataConfig().labels else [f"data.labels={name}"]
    return ["data.labels=custom", f"data.classes=[{', '.join(names)}]"]


def command_line(
    verb: str, config_path: str | None, run_name: str | None, overrides: Sequence[str]
) -> str:
    """The command that does `verb` with the same options."""
    words = [*verb.split()]
    words += ["--config", config_path] if config_path else []
    words += ["--run", run_name] if run_name else []
    return f"{console.program()} {shlex.join([*words, *overrides])}"


def refuse_unfinished(run: RunDir, needed: Path) -> None:
    """Refuse a run without the file `needed`, which it has when all folds are finished.

    Raises:
        UserError: with the command that finishes the run.
    """
    if needed.is_file():
        return
    if not run.config.is_file():
        raise UserError(
            f"Expected a run that is trained, with {run.config.name} in its folder. Received: "
            f"{run.path}. Train it with the command cv, by the options that it was prepared with."
        )
    folds = range(load_config(run.config).folds.k)
    left = [str(fold) for fold in folds if not run.fold(fold).is_done]
    if left:
        raise UserError(
            f"Expected a finished run. Received: {run.name!r}, of whose folds 0 to {folds[-1]} "
            f"these are not finished: {', '.join(left)}. Finish it with: {run.command('cv')}"
        )
    raise UserError(
        f"Expected {needed.name} in the folder of the run {run.name!r}. Received: a run without "
        f"it. Write it with: {run.command('evaluate', with_config=False)}"
    )


def refuse_smaller(run: RunDir) -> None:
    """Refuse a folder that `shrink` wrote: it answers, but was not trained, so there is no more.

    Raises:
        UserError: with what it can be used for.
    """
    if run.is_bundle_alone:
        raise UserError(
            f"Expected a run with its folds. Received: {run.path}, a bundle alone, as shrink "
            "writes it. Name the run that it came from; the bundle is for ensemble-predict IMAGES "
            "--run, explain IMAGES --run, and evaluate --external IMAGES."
        )


def refuse_lost_images(run: RunDir) -> None:
    """Refuse a run whose decoded images and image files are all gone, before anything is loaded.

    Raises:
        UserError: with the command that decodes the images again.
    """
    from kderm.data.images import ImageSpec
    from kderm.data.manifest import read_manifest
    from kderm.data.run_store import open_run_store
    from kderm.labels import label_space

    config = load_config(run.config)
    spec = ImageSpec(*config.image.stored_shape, config.image.preprocess)
    if open_run_store(run, spec) is not None:
        return
    labels = label_space(config.data.labels, config.data.classes, config.data.malignant)
    paths = read_manifest(run.manifest, labels).table["path"]
    if not any(Path(path).is_file() for path in paths):
        raise UserError(
            f"The images of the run {run.name!r} are gone: neither its decoded images nor a file "
            f"such as {paths.iloc[0]} (looked from {Path.cwd()}). Work in the folder that the run "
            "was started from, or bring the files back; to decode them again: "
            f"{run.command('prepare')}"
        )
