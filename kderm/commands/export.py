"""`export`: a run's members for another engine, with the difference that it makes."""

import shlex

from kderm import console
from kderm.commands.pieces import known_run
from kderm.run_dir import runs_root
from kderm.runtime import check_backend


def export(run_name: str | None, engine: str, precision: str) -> None:
    """`export`: files beside the bundle, compared with the members in Keras."""
    check_backend()
    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.engines.choose import check_engine
    from kderm.ensemble.engines.exports import export as export_members

    check_engine(engine, precision)
    run = known_run(run_name)
    bundle = read_bundle(run.path)
    console.say(f"exporting {len(bundle.facts.members)} member(s); each takes some seconds")
    found = export_members(bundle, engine, precision)
    console.say(f"{engine} in {precision}: {found.record.parity}")
    console.say(f"Exported: {found.directory}")
    # A shrunken run lies where its name alone does not lead.
    place = run.name if run.path == runs_root() / run.name else str(run.path)
    words = ["ensemble-predict", "IMAGES", "--run", place, "--engine", engine]
    words += [] if precision == "float32" else [f"predict.precision={precision}"]
    console.say(f"Next: {console.program()} {shlex.join(words)}")
