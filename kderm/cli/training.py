"""The command line: `cv` and `train`: members."""

import click

from kderm.cli.options import CONFIG, LAUNCHER, OVERRIDES, POSITIVE, RUN
from kderm.errors import UserError
from kderm.plainly import plainly


@click.command()
@CONFIG
@RUN
@click.option("--folds", "-k", type=int, help="Number of folds.")
@click.option(
    "--jobs",
    "-j",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="Folds at a time, each on its share of the GPUs or cores.",
)
@LAUNCHER
@click.option("--address", help="For --launcher ray: HOST:PORT; default: started here.")
@click.option(
    "--unlabelled", metavar="DIR", help="Then train a student on pseudo-labels of these images."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="For --unlabelled: least probability of a pseudo-label; default: 0.95.",
)
@OVERRIDES
@plainly
def cv(
    config: str | None,
    run_name: str | None,
    folds: int | None,
    jobs: int,
    launcher: str,
    address: str | None,
    unlabelled: str | None,
    threshold: float | None,
    overrides: tuple[str, ...],
) -> None:
    """Train all folds, join their predictions, report. The same command resumes."""
    from kderm.commands import training

    if threshold is not None and not unlabelled:
        raise UserError("--threshold belongs to --unlabelled DIR. Received: no --unlabelled.")
    if launcher == "ray" and jobs > 1:
        raise UserError("--jobs belongs to --launcher local: a cluster trains as many as it can.")
    if address and launcher != "ray":
        raise UserError(
            f"--address belongs to --launcher ray. Received: --address {address} for the launcher "
            f"{launcher}. Add --launcher ray, or leave --address out."
        )
    how = {"jobs": jobs, "launcher": launcher, "address": address}
    if unlabelled:
        training.with_student(config, run_name, folds, overrides, unlabelled, threshold, **how)
    else:
        training.cross_validate(config, run_name, folds, overrides, **how)


@click.command()
@CONFIG
@RUN
@click.option("--fold", "-f", type=int, required=True, help="The fold to hold out, from 0.")
@OVERRIDES
@plainly
def train(config: str | None, run_name: str | None, fold: int, overrides: tuple[str, ...]) -> None:
    """Train one fold, with the same result as in a full run. The same command resumes."""
    from kderm.commands import training

    training.train(config, run_name, fold, overrides)
