"""`prepare`, `audit` and `inspect`: what is known of a data set before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.commands.asked import command_line, read_config
from kderm.commands.pieces import describe, exclusive
from kderm.config.run_names import data_set_name
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.run_dir import RunDir, data_set_dir


def prepare(config_path: str | None, run_name: str | None, overrides: Sequence[str]) -> None:
    """`prepare`: manifest, image store, folds; print the class table and the leakage."""
    config, run = read_config("prepare", config_path, run_name, overrides)
    from kderm.data.checked import check_places
    from kderm.data.prepare import prepare as prepare_data
    from kderm.training.crossval import refuse_other_config
    from kderm.training.recipe import check_recipe

    with exclusive(run, "prepare"):
        refuse_other_config(config, run)
        check_recipe(config)
        check_places(config)
        describe(prepare_data(config, run))
    console.say(f"\nNext: {command_line('cv', config_path, run_name, overrides)}")


def download(
    name: str | None,
    into: str | None,
    config_path: str | None,
    run_name: str | None,
    overrides: Sequence[str],
) -> None:
    """`prepare --download NAME`: the official files, checked and unpacked."""
    from kderm.data.fetch import fetch_dataset

    if name is None or config_path or run_name or overrides:
        raise UserError(
            "Expected --download NAME with at most --into FOLDER: files are fetched first and "
            "prepared by a command of its own. Received other options too, or no name."
        )
    with console.progress(f"fetching {name} (MB)") as report:
        folder = fetch_dataset(name, Path(into) if into else Path("data") / name, report)
    console.say(f"{name}: {folder}/")
    from kderm.data.datasets import DATASETS

    labels = DATASETS[name].native[0]
    options = [f"data.dataset={name}", f"data.labels={labels}", f"data.root={folder}"]
    console.say(f"Next: {command_line('prepare', None, None, options)}")


def audit(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`audit`: the same picture twice, and what is done about it."""
    config, run = read_config("audit", config_path, None, overrides)
    directory = place(config, config_path, run, out, "audit")
    from kderm.data.audit import audit as audit_data
    from kderm.data.checked import check_places

    check_places(config)
    console.say(audit_data(config, directory))


def inspect(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`inspect`: pages that show the data set."""
    config, run = read_config("inspect", config_path, None, overrides)
    directory = place(config, config_path, run, out, "inspect")
    from kderm.data.checked import check_places
    from kderm.inspection.pages import inspect_data

    check_places(config)
    console.say(inspect_data(config, directory))


def place(config: Config, config_path: str | None, run: RunDir, out: str | None, what: str) -> Path:
    """Where the pages or tables about a data set go: --out, or a folder of its own."""
    if out:
        return Path(out)
    if config_path or config.data.is_demo:
        return run.path / what
    return data_set_dir(data_set_name(config.data)) / what
