"""The command line: `evaluate`, `compare`, `select`: what finished runs are worth."""

import click

from kderm.cli.options import OUT, POSITIVE
from kderm.errors import UserError
from kderm.plainly import plainly


@click.command()
@click.argument("run_name", required=False)
@click.option(
    "--external", multiple=True, metavar="PATH", help="Score these labelled images instead."
)
@click.option(
    "--overlap",
    type=click.Choice(["remove", "keep"]),
    help="For --external: images that the members trained on; default: remove.",
)
@OUT
@click.option(
    "--about",
    type=click.Path(),
    metavar="CSV",
    help="What else is known of the run's images (image_id, skin_tone, ...), for the subgroups.",
)
@plainly
def evaluate(
    run_name: str | None,
    external: tuple[str, ...],
    overlap: str | None,
    out: str | None,
    about: str | None,
) -> None:
    """Join a run's folds and rebuild its ensemble and report from the saved tables.

    With --external (folders of class folders, CSVs): audit the overlap with the run's own images,
    predict the rest, and report.
    """
    from kderm.commands import results

    if external and about:
        raise UserError("--about is for the run's own images. Received: --external with it.")
    if external:
        results.evaluate_external(run_name, external, out, overlap or "remove")
    elif overlap or out:
        raise UserError("--overlap and --out belong to --external PATH. Received: no --external.")
    else:
        results.evaluate(run_name, about)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@OUT
@click.option("--resamples", type=click.IntRange(min=100), default=2000, show_default=True)
@plainly
def compare(runs: tuple[str, ...], out: str | None, resamples: int) -> None:
    """Hold runs (or predictions.csv files) against the first one, on the images all answered.

    Differences with 95 % intervals, DeLong and McNemar tests that know of lesions, and a picture.
    """
    from kderm.commands import comparison

    comparison.compare(runs, out, resamples)


@click.command()
@click.argument("run_names", nargs=-1, metavar="[RUN]...")
@click.option("--views", help="View sets to weigh, with commas between; default: all.")
@click.option("--images", type=POSITIVE, help="Look at about so many images instead of all.")
@click.option(
    "--external", multiple=True, metavar="PATH", help="Weigh members too, on labelled images."
)
@click.option("--soup", is_flag=True, help="For --external: average the members' weights too.")
@click.option("--batch-size", type=POSITIVE, help="For one RUN; default: 32.")
@plainly
def select(
    run_names: tuple[str, ...],
    views: str | None,
    images: int | None,
    external: tuple[str, ...],
    soup: bool,
    batch_size: int | None,
) -> None:
    """Weigh test-time views, members or runs: what each gains, and what it costs.

    One RUN: its views, on held-out images; with --external (folders of class folders, CSVs) its
    members too. Several: which to mix, by their out-of-fold tables. Results are in RUN/selection/.
    """
    from kderm.commands import selection

    selection.select(run_names, external, views, images, soup, batch_size)
