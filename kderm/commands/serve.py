"""`serve`: the page of a run, on this machine."""

import os
import sys

import click

from kderm import console
from kderm.commands.prediction import bundle_path
from kderm.errors import UserError
from kderm.runtime import check_backend

PASSWORD = "KDERM_PASSWORD"
_HERE = ("localhost", "127.0.0.1", "::1")


def serve(
    run_name: str | None,
    engine: str,
    views: str | None,
    early_exit: float | None,
    host: str,
    port: int,
    user: str | None,
) -> None:
    """`serve`: open the page, say where it is, and end tidily on Ctrl-C or SIGTERM."""
    # Beside a server other programs run: threads that wait by spinning would starve them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    password = None if user is None else _password(user)
    check_backend()
    from kderm.api.loaded import load_ensemble
    from kderm.app.server import (
        Stopped,
        address,
        build_app,
        open_socket,
        prepare_gradio,
        run,
        stopped_by_signals,
        warm_up,
    )
    from kderm.app.workroom import Workroom

    place = bundle_path(run_name)
    try:
        with stopped_by_signals(), Workroom() as workroom:
            prepare_gradio(workroom)
            opened = open_socket(host, port)
            ensemble = load_ensemble(place, engine=engine, views=views, early_exit=early_exit)
            console.say("warming up; the first answer would wait for it otherwise")
            warm_up(ensemble)
            app = build_app(ensemble, workroom, user=user, password=password)
            if host not in _HERE and user is None:
                console.warn(
                    "Whoever reaches this machine can use the page: there is no password. Set one "
                    f"with --user NAME and the environment variable {PASSWORD}."
                )
            run(app, opened, lambda: _announce(address(opened, host)))
    except Stopped:
        console.say("The page is closed. Nothing was kept.")


def _announce(where: str) -> None:
    console.say(f"The page: {where}")
    console.say("No medical device. Ctrl-C ends it.")
    sys.stdout.flush()


def _password(user: str) -> str:
    """From the environment, else asked for: the command line can be read by other users."""
    password = os.environ.get(PASSWORD, "")
    if not password and sys.stdin.isatty():
        password = click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True)
    if not password:
        raise UserError(
            f"--user {user} needs a password. Expected: the environment variable {PASSWORD}, or a "
            "terminal to ask on. Received: neither."
        )
    return password
