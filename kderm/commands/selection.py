"""`select`: which views, members and runs are worth their cost."""

from collections.abc import Sequence

from kderm import console
from kderm.api.conclusion import learn_likeness
from kderm.commands.asked import refuse_lost_images, refuse_smaller, refuse_unfinished
from kderm.commands.pieces import exclusive
from kderm.errors import UserError
from kderm.run_dir import RunDir, open_run
from kderm.runtime import check_backend

BATCH_SIZE = 32


def select(
    run_names: Sequence[str],
    external: Sequence[str],
    views: str | None,
    images: int | None,
    soup: bool,
    batch_size: int | None,
) -> None:
    """`select`: tables of gain and cost in runs/<run>/selection/."""
    if soup and not external:
        raise UserError(
            "Every image of a run was seen by a member of its soup, so --soup needs labelled "
            "images from elsewhere. Received: no --external PATH."
        )
    if len(run_names) > 1:
        if external or views or images or batch_size:
            raise UserError(
                "Several runs are weighed by their out-of-fold tables alone. Received: "
                f"{len(run_names)} runs with --external, --views, --images or --batch-size, which "
                "belong to one."
            )
        _among_runs(run_names)
        return
    run = open_run(run_names[0] if run_names else None)
    refuse_smaller(run)
    refuse_unfinished(run, run.bundle)
    if not external:
        refuse_lost_images(run)
    with exclusive(run, "select"):
        chosen = views.split(",") if views else None
        _of_one_run(run, external, chosen, images, soup, batch_size or BATCH_SIZE)


def _of_one_run(
    run: RunDir,
    external: Sequence[str],
    views: list[str] | None,
    images: int | None,
    soup: bool,
    batch_size: int,
) -> None:
    check_backend()
    from kderm.ensemble.bundle import read_bundle
    from kderm.ensemble.member_selection import select_members
    from kderm.ensemble.selection_files import write_selection
    from kderm.ensemble.view_selection import select_views

    bundle = read_bundle(run.path)
    if external:
        with console.progress("every member on the images from elsewhere") as report:
            found = select_members(
                run,
                bundle,
                external,
                views=views,
                images=images,
                with_soup=soup,
                batch_size=batch_size,
                progress=report,
            )
    else:
        with console.progress("every view of the held-out images") as report:
            found = select_views(
                run, bundle, views=views, images=images, batch_size=batch_size, progress=report
            )
    for selection in found:
        console.say(f"\n{selection}\n")
        console.say(f"Table: {write_selection(run, selection)}")
    if not external and images is None:  # every image of the run was at hand
        learn_likeness(run)


def _among_runs(names: Sequence[str]) -> None:
    from kderm.commands.comparison import read_run
    from kderm.ensemble.run_selection import select_runs
    from kderm.ensemble.selection_files import write_selection

    runs = [open_run(name) for name in names]
    tables = []
    for run in runs:
        table, notes = read_run(run)
        tables.append((run.name, table))
        for note in notes:
            console.warn(f"{run.name}: {note}")
    selection = select_runs(tables)
    console.say(f"\n{selection}\n")
    console.say(f"Table: {write_selection(runs[0], selection)}")
