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
LAUNCHER = click.option(
    "--launcher",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where it is computed: here, or on a Ray cluster (docs/cluster.md).",
)
POSITIVE = click.IntRange(min=1)
OVERRIDES = click.argument("overrides", nargs=-1, metavar="[SECTION.KEY=VALUE]...")
