"""What a run is called where nobody names it."""

import re
from pathlib import Path

from kderm.config.schema import Config, DataConfig
from kderm.errors import UserError
from kderm.run_dir import RunDir, runs_root
from kderm.storage.mirror import pull


def named_run(config: Config, config_path: str | None, run_name: str | None) -> RunDir:
    """The folder of the run: by its name, else by the config file's, else by the data set's.

    Raises:
        UserError: a name that is no name of a folder.
    """
    name = run_name or (Path(config_path).stem if config_path else data_set_name(config.data))
    if name.startswith(("_", ".")) or "/" in name or "\\" in name:
        raise UserError(
            "A run's name is one folder name that begins with a letter or a digit. "
            f"Received: {name!r}. Choose another with --run NAME."
        )
    run = RunDir(runs_root() / name)
    pull(run.path)
    return run


def data_set_name(data: DataConfig) -> str:
    """A folder name for the data set: "demo", or the adapter's name, its folder's and its table's.

    So the demo and a data set of one's own never meet in one run.
    """
    if data.is_demo:
        return "demo"
    parts = [data.title.replace(" ", "")]
    parts += [source.root.resolve().name for source in data.sources]
    if not data.sources:
        parts += [data.root.resolve().name] if data.root else []
        parts += [data.table.stem] if data.table else []
    return re.sub(r"[^\w.+-]", "_", "_".join(dict.fromkeys(filter(None, parts))))
