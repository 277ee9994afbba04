"""`export`: a run's members for another engine, with the difference that it makes; or a Space."""

import shlex
from pathlib import Path

from kderm import console
from kderm.commands.pieces import known_run, say_kept
from kderm.counting import counted
from kderm.errors import missing_extra
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
    console.say(
        f"exporting {counted(len(bundle.facts.members), 'member')}; each takes some seconds"
    )
    found = export_members(bundle, engine, precision)
    console.say(f"{engine} in {precision}: {found.record.parity}")
    console.say(f"Exported: {found.directory}")
    say_kept(found.directory)
    # A shrunken run lies where its name alone does not lead.
    place = run.name if run.path == runs_root() / run.name else str(run.path)
    words = ["ensemble-predict", "IMAGES", "--run", place, "--engine", engine]
    words += [] if precision == "float32" else [f"predict.precision={precision}"]
    console.say(f"Next: {console.program()} {shlex.join(words)}")


def export_space(run_name: str | None, directory: str) -> None:
    """`export --space`: the page of `serve` as a folder for Hugging Face."""
    check_backend()
    from kderm.app.space import write_space
    from kderm.ensemble.bundle import read_bundle

    try:
        import gradio  # noqa: F401
    except ImportError:
        raise missing_extra("gradio", "app", "A Space") from None
    folder = write_space(read_bundle(known_run(run_name).path), Path(directory))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    console.say(f"Space: {folder} ({size / 1e6:.0f} MB; no pictures and no ids of the data set)")
    console.say("Read its README.md before it is published: it names no licence yet.")
    console.say(
        f"Next: cd {shlex.quote(str(folder))} && pip install -r requirements.txt && python app.py"
    )
