"""`shrink`: a smaller bundle of a run, and what that saves."""

import shlex

from kderm import console
from kderm.commands.asked import refuse_lost_images, refuse_unfinished
from kderm.commands.pieces import known_run, say_kept
from kderm.errors import UserError
from kderm.runtime import check_backend

BATCH_SIZE = 32
# A soup whose class is the members' less often than this has lost what they learnt.
LEAST_ALIKE = 0.8


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

    smaller, alike = write_smaller(run, bundle, folds, BATCH_SIZE)
    before, after = len(bundle.facts.members), len(smaller.facts.members)
    passes = "1 forward pass" if after == 1 else f"{after} forward passes"
    console.say(
        f"{smaller.directory}: {smaller.facts.smaller}; {passes} a view in place of {before}. "
        "Calibration and thresholds are the run's."
    )
    say_kept(smaller.directory)
    if alike is not None and alike < LEAST_ALIKE:
        console.warn(
            f"the averaged network answers otherwise than its members: in {1 - alike:.0%} of the "
            "run's images it names another class. Averaged weights need members that began from "
            "the same pretrained weights and stayed near each other; keep some members instead "
            "(--members 0,1)."
        )
    console.say(
        "How good it is, only images can tell that no member was trained on: "
        f"{console.program()} select {run.name} --external LABELLED{' --soup' * (folds is None)}"
    )
    console.say(
        "The folder can be copied alone; for int8 export it here before, because the ranges are "
        f"taken from the run's images: {console.program()} export "
        f"{shlex.quote(str(smaller.directory))} --engine openvino --precision int8"
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
