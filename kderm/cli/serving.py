"""The command line: `serve`: the page."""

import click

from kderm.cli.options import FINISHED_RUN
from kderm.plainly import plainly


@click.command()
@FINISHED_RUN
@click.option(
    "--engine",
    type=click.Choice(["keras", "onnx", "openvino"]),
    default="keras",
    show_default=True,
    help="What computes the answers; maps are Keras' in any case.",
)
@click.option("--views", help="none, flips, d4, multi_scale or multi_crop; default: the run's.")
@click.option(
    "--early-exit",
    type=click.FloatRange(0, 0.5, max_open=True),
    help="Standard error at which an image gets no further views; default: the run's.",
)
@click.option("--host", default="localhost", show_default=True, help="0.0.0.0: for other machines.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@click.option("--user", help="Ask for this user and the password in KDERM_PASSWORD.")
@plainly
def serve(
    run_name: str | None,
    engine: str,
    views: str | None,
    early_exit: float | None,
    host: str,
    port: int,
    user: str | None,
) -> None:
    """Open a page that answers photos with a run's ensemble, on this machine alone.

    It stores nothing and needs no network. No medical device.
    """
    from kderm.commands import serve

    serve.serve(run_name, engine, views, early_exit, host, port, user)
