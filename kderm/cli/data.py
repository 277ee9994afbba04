"""The command line: `prepare`, `audit`, `inspect`: a data set before any training."""

import click

from kderm.cli.options import CONFIG, OUT, OVERRIDES, RUN
from kderm.plainly import plainly


@click.command()
@CONFIG
@RUN
@click.option("--download", metavar="NAME", help="Fetch the official files of NAME first.")
@click.option("--into", type=click.Path(), help="Folder for --download; default: data/NAME.")
@OVERRIDES
@plainly
def prepare(
    config: str | None,
    run_name: str | None,
    download: str | None,
    into: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Check a data set, decode its images once, make its folds; say what is there.

    With --download, fetch an official data set: checked, resumed, unpacked.
    """
    from kderm.commands import data

    if download or into:
        data.download(download, into, config, run_name, overrides)
    else:
        data.prepare(config, run_name, overrides)


@click.command()
@CONFIG
@OUT
@OVERRIDES
@plainly
def audit(config: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Find the same picture twice: by id, by file and by look, within and across data sets."""
    from kderm.commands import data

    data.audit(config, out, overrides)


@click.command()
@CONFIG
@OUT
@OVERRIDES
@plainly
def inspect(config: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Write pages that show a data set: classes, examples, age, sex, site, quality, leakage."""
    from kderm.commands import data

    data.inspect(config, out, overrides)
