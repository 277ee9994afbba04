"""`prepare`, `audit` and `inspect`: what is known of a data set before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.commands.pieces import command_line, describe, exclusive, named_run
from kderm.config.reading import load_config
from kderm.config.schema import Config
from kderm.errors import UserError
from kderm.run_dir import data_set_dir


def prepare(config_path: str | None, run_name: str | None, overrides: Sequence[str]) -> None:
    """`prepare`: manifest, image store, folds; print the class table and the leakage."""
    config, run = load_config(config_path, overrides), named_run(config_path, run_name)
    from kderm.data.prepare import prepare as prepare_data
    from kderm.training.crossval import refuse_other_config
    from kderm.training.recipe import check_recipe

    with exclusive(run):
        refuse_other_config(config, run)
        check_recipe(config)
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

    options = f"data.dataset={name} data.labels={DATASETS[name].native[0]} data.root={folder}"
    console.say(f"Next: {console.program()} prepare {options}")


def audit(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`audit`: the same picture twice, and what is done about it."""
    config = load_config(config_path, overrides)
    directory = place(config, config_path, out, "audit")
    from kderm.data.audit import audit as audit_data

    console.say(audit_data(config, directory))


def inspect(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`inspect`: pages that show the data set."""
    config = load_config(config_path, overrides)
    directory = place(config, config_path, out, "inspect")
    from kderm.inspection.pages import inspect_data

    console.say(inspect_data(config, directory))


def place(config: Config, config_path: str | None, out: str | None, what: str) -> Path:
    """Where the pages or tables about a data set go: --out, or a folder of its own."""
    if out:
        return Path(out)
    if config_path or config.data.is_demo:
        return named_run(config_path, None).path / what
    roots = [source.root for source in config.data.sources] or [config.data.root or Path()]
    names = [config.data.title.replace(" ", ""), *(root.resolve().name for root in roots)]
    return data_set_dir("_".join(dict.fromkeys(names))) / what
