"""The command line: `export` and `shrink`: an ensemble in another form."""

import click

from kderm.plainly import plainly


@click.command()
@click.argument("run_name", required=False, metavar="[RUN]")
@click.option(
    "--engine",
    type=click.Choice(["onnx", "openvino"]),
    default="onnx",
    show_default=True,
    help="ONNX Runtime or OpenVINO.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="int8 takes its ranges from held-out images of the run.",
)
@click.option(
    "--space", type=click.Path(), metavar="DIR", help="Write a Hugging Face Space there instead."
)
@plainly
def export(run_name: str | None, engine: str, precision: str, space: str | None) -> None:
    """Write a run's members for another engine; say how far its answers lie from the members' own.

    The files are in RUN/engines/. ensemble-predict --engine does this by itself when it has to.
    With --space DIR, write the page of `serve` with its bundle, ready for Hugging Face.
    """
    from kderm.commands import export

    if space is None:
        export.export(run_name, engine, precision)
    else:
        export.export_space(run_name, space)


@click.command()
@click.argument("run_name", required=False, metavar="[RUN]")
@click.option(
    "--members",
    default="soup",
    show_default=True,
    metavar="soup|FOLD,...",
    help="The mean of all members' weights as one network, or the members of these folds.",
)
@plainly
def shrink(run_name: str | None, members: str) -> None:
    """Write a smaller bundle of a run: cheaper to ask, and for ensemble-predict a run like others.

    It goes to RUN/smaller/, a folder that can be copied alone.
    """
    from kderm.commands import shrink

    shrink.shrink(run_name, members)
