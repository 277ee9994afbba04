"""`prepare`, `audit` and `inspect`: what is known of a data set before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

from kderm import console
from kderm.commands.pieces import command_line, describe, exclusive, named_run
from kderm.config import load_config
from kderm.errors import UserError


def prepare(config_path: str | None, run_name: str | None, overrides: Sequence[str]) -> None:
    """`prepare`: manifest, image store, folds; print the class table and the leakage."""
    config, run = load_config(config_path, overrides), named_run(config_path, run_name)
    from kderm.data.prepare import prepare as prepare_data
    from kderm.training.crossval import refuse_other_config

    with exclusive(run):
        refuse_other_config(config, run)
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
    console.say(f"Next: {console.program()} prepare data.dataset={name} data.root={folder}")


def audit(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`audit`: the same picture twice, and what is done about it."""
    config, directory = load_config(config_path, overrides), place(config_path, out, "audit")
    from kderm.data.audit import audit as audit_data

    console.say(audit_data(config, directory))


def inspect(config_path: str | None, out: str | None, overrides: Sequence[str]) -> None:
    """`inspect`: pages that show the data set."""
    config, directory = load_config(config_path, overrides), place(config_path, out, "inspect")
    from kderm.inspection.pages import inspect_data

    console.say(inspect_data(config, directory))


def place(config_path: str | None, out: str | None, what: str) -> Path:
    """Where the pages or tables about a data set go: --out, or a folder of the run."""
    return Path(out) if out else named_run(config_path, None).path / what
