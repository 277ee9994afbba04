"""The command line: `weights` and `doctor`: what this machine has."""

import click

from kderm.plainly import plainly


@click.group()
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


@click.command()
@plainly
def doctor() -> None:
    """Say what works on this machine: backends, device, precision, extras, weights."""
    from kderm.commands import machine

    machine.doctor()
