"""The command line: parse, call one function, print. A file a group of verbs.

Heavy imports stay inside the commands, so that `--help` is instant.
"""

import click

from kderm import __version__
from kderm.cli import data, exports, machine, prediction, results, serving, training

VERBS = (
    data.prepare,
    data.audit,
    data.inspect,
    training.cv,
    training.train,
    results.evaluate,
    results.compare,
    results.select,
    prediction.ensemble_predict,
    prediction.explain,
    exports.export,
    exports.shrink,
    serving.serve,
    machine.weights,
    machine.doctor,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Lesion-grouped cross-validation ensembles on dermoscopy images.

    Start with: python run.py cv --folds 5
    """


for verb in VERBS:
    main.add_command(verb)
