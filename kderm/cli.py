"""The command line: parse, call one function, print. Heavy imports stay inside the commands."""

import click

from kderm import __version__
from kderm.errors import UserError
from kderm.plainly import plainly

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Lesion-grouped cross-validation ensembles on dermoscopy images.

    Start with: python run.py cv --folds 5
    """


@main.command()
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


@main.command()
@CONFIG
@OUT
@OVERRIDES
@plainly
def audit(config: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Find the same picture twice: by id, by file and by look, within and across data sets."""
    from kderm.commands import data

    data.audit(config, out, overrides)


@main.command()
@CONFIG
@OUT
@OVERRIDES
@plainly
def inspect(config: str | None, out: str | None, overrides: tuple[str, ...]) -> None:
    """Write pages that show a data set: classes, examples, age, sex, site, quality, leakage."""
    from kderm.commands import data

    data.inspect(config, out, overrides)


@main.command()
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
    unlabelled: str | None,
    threshold: float | None,
    overrides: tuple[str, ...],
) -> None:
    """Train all folds, join their predictions, report. The same command resumes."""
    from kderm.commands import training

    if threshold is not None and not unlabelled:
        raise UserError("--threshold belongs to --unlabelled DIR. Received: no --unlabelled.")
    if unlabelled:
        training.with_student(config, run_name, folds, overrides, unlabelled, threshold, jobs=jobs)
    else:
        training.cross_validate(config, run_name, folds, overrides, jobs=jobs)


@main.command()
@CONFIG
@RUN
@click.option("--fold", "-f", type=int, required=True, help="The fold to hold out, from 0.")
@OVERRIDES
@plainly
def train(config: str | None, run_name: str | None, fold: int, overrides: tuple[str, ...]) -> None:
    """Train one fold, with the same result as in a full run. The same command resumes."""
    from kderm.commands import training

    training.train(config, run_name, fold, overrides)


@main.command()
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


@main.command()
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


@main.command("ensemble-predict")
@click.argument("images", nargs=-1, required=True, metavar="IMAGES... [predict.KEY=VALUE]...")
@FINISHED_RUN
@OUT
@click.option("--views", help="none, flips, d4, multi_scale or multi_crop; default: the run's.")
@click.option("--combine", help="probability, logit or oof; default: the run's.")
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
@plainly
def ensemble_predict(
    images: tuple[str, ...],
    run_name: str | None,
    out: str | None,
    views: str | None,
    combine: str | None,
    engine: str,
    explain: bool,
    challenge: str | None,
    prevalence: str | None,
) -> None:
    """Predict IMAGES (folders, files, CSVs, globs) with all folds of a run.

    Writes predictions.csv, lesions.csv where a CSV has lesion ids, and a report where labels are
    known. Beside the images: predict.precision=bfloat16 or int8, predict.early_exit=0.03 (fewer
    views for images that are settled), predict.batch_size=32.
    """
    from kderm.commands import prediction

    prediction.ensemble_predict(
        *(images, run_name, out, views, combine, engine),
        explain=explain,
        challenge=challenge,
        prevalence=prevalence,
    )


@main.command()
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


@main.command()
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


@main.command()
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
@plainly
def export(run_name: str | None, engine: str, precision: str) -> None:
    """Write a run's members for another engine; say how far its answers lie from the members' own.

    The files are in RUN/engines/. ensemble-predict --engine does this by itself when it has to.
    """
    from kderm.commands import export

    export.export(run_name, engine, precision)


@main.command()
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


@main.group()
def weights() -> None:
    """Pretrained weights: what there is, and how to bring them to a machine with no network."""


@weights.command("list")
@click.argument("part", required=False)
@plainly
def weights_list(part: str | None) -> None:
    """List the presets (those whose name contains PART), and where their weights are."""
    from kderm.commands import machine

    machine.weights_list(part or "")


@weights.command("fetch")
@click.argument("preset")
@click.option("--into", type=click.Path(), help="Folder; default: where presets are looked for.")
@plainly
def weights_fetch(preset: str, into: str | None) -> None:
    """Download the weights of PRESET into a folder that can be copied elsewhere."""
    from kderm.commands import machine

    machine.weights_fetch(preset, into)


@main.command()
@plainly
def doctor() -> None:
    """Say what works on this machine: backends, device, precision, extras, weights."""
    from kderm.commands import machine

    machine.doctor()
