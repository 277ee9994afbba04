"""The command line: `ensemble-predict` and `explain`: answers to images."""

import click

from kderm.cli.options import FINISHED_RUN, LAUNCHER, OUT, POSITIVE
from kderm.plainly import plainly


@click.command("ensemble-predict")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES... [predict.KEY=VALUE]...")
@FINISHED_RUN
@OUT
@click.option("--views", help="none, flips, d4, multi_scale or multi_crop; default: the run's.")
@click.option(
    "--engine",
    type=click.Choice(["keras", "onnx", "openvino"]),
    default="keras",
    show_default=True,
    help="What computes; the others are exported at first use.",
)
@click.option("--explain", is_flag=True, help="Draw what speaks for each answer too.")
@click.option(
    "--challenge",
    type=click.Choice(["2018", "2019", "2020", "2024"]),
    help="Write a submission to this ISIC challenge too.",
)
@click.option(
    "--prevalence",
    metavar="CODE=SHARE,...",
    help="Shares of classes where the answers shall hold: mel=0.02, or malignant=0.05.",
)
@LAUNCHER
@plainly
def ensemble_predict(
    images: tuple[str, ...],
    run_name: str | None,
    out: str | None,
    views: str | None,
    engine: str,
    explain: bool,
    challenge: str | None,
    prevalence: str | None,
    launcher: str,
) -> None:
    """Predict IMAGES (folders, files, CSVs, globs) with all folds of a run.

    Writes predictions.csv, lesions.csv where a CSV has lesion ids, and a report where labels are
    known. Beside the images: predict.precision=bfloat16 or int8, predict.early_exit=0.03 (fewer
    views for images that are settled), predict.combine=probability, logit or oof,
    predict.batch_size=32.
    """
    from kderm.commands import prediction

    prediction.ensemble_predict(
        *(images, run_name, out, views, engine),
        explain=explain,
        challenge=challenge,
        prevalence=prevalence,
        launcher=launcher,
    )


@click.command()
@click.argument("sources", nargs=-1, metavar="[RUN | IMAGES...]")
@FINISHED_RUN
@OUT
@click.option("--layer", help="Layer to look into by Grad-CAM; default: the last, exactly.")
@click.option("--views", help="none, flips, d4, multi_scale or multi_crop; default: the run's.")
@click.option("--each", type=POSITIVE, help="For RUN: images a section of a sheet; default: 6.")
@click.option(
    "--check", type=POSITIVE, metavar="N", help="For RUN: test the maps on N images, at random."
)
@click.option("--batch-size", type=POSITIVE, help="For IMAGES; default: 32.")
@plainly
def explain(
    sources: tuple[str, ...],
    run_name: str | None,
    out: str | None,
    layer: str | None,
    views: str | None,
    each: int | None,
    check: int | None,
    batch_size: int | None,
) -> None:
    """Draw what speaks for the predicted class and for melanoma (else: malignancy).

    Of a RUN: one sheet a class of held-out images. Of IMAGES (folders, files, CSVs, globs): predict
    them, an overlay each, and contact sheets. Flags maps that lie off the lesion.
    """
    from kderm.commands import explanation

    explanation.explain(sources, run_name, out, layer, views, each, check, batch_size)
