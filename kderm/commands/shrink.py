"""`shrink`: a smaller bundle of a run, and what that saves."""

import shlex

from kderm import console
from kderm.commands.asked import refuse_lost_images, refuse_unfinished
from kderm.commands.pieces import known_run
from kderm.errors import UserError
from kderm.runtime import check_backend

BATCH_SIZE = 32


def shrink(run_name: str | None, members: str) -> None:
    """`shrink`: a folder below the run that ensemble-predict takes as it takes a run."""
    run = known_run(run_name)
    refuse_unfinished(run, run.bundle)
    folds = None if members == "soup" else _folds(members)
    from kderm.ensemble.bundle import read_bundle

    bundle = read_bundle(run.path)
    if bundle.facts.smaller:
        raise UserError(
            f"Expected a run with all its members. Received: {run.path}, {bundle.facts.smaller} "
            f"of the run {bundle.facts.run}. Shrink that run itself."
        )
    if folds is None:
        refuse_lost_images(run)
    check_backend()
    from kderm.ensemble.smaller import write_smaller

    smaller = write_smaller(run, bundle, folds, BATCH_SIZE)
    before, after = len(bundle.facts.members), len(smaller.facts.members)
    console.say(
        f"{smaller.directory}: {smaller.facts.smaller}; {after} forward pass(es) a view in place "
        f"of {before}. Calibration and thresholds are the run's."
    )
    console.say(
        "How good it is, only images can tell that no member was trained on: "
        f"{console.program()} select {run.name} --external LABELLED{' --soup' * (folds is None)}"
    )
    words = ["ensemble-predict", "IMAGES", "--run", str(smaller.directory)]
    console.say(f"Next: {console.program()} {shlex.join(words)}")


def _folds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() for word in words):
        raise UserError(
            f"Expected --members soup, or folds with commas between, as 0,2. Received: {text!r}."
        )
    return [int(word) for word in words]
