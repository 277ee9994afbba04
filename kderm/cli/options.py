"""Options that several verbs share."""

import click

CONFIG = click.option("--config", "-c", type=click.Path(), help="YAML config; default: the demo.")
RUN = click.option(
    "--run", "-r", "run_name", help="Name of the run; default: the config's, else the data set's."
)
FINISHED_RUN = click.option(
    "--run", "-r", "run_name", help="Name of a finished run; default: the newest."
)
OUT = click.option("--out", "-o", type=click.Path(), help="Folder of the results.")
POSITIVE = click.IntRange(min=1)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
