"""`serve`: the page of a run, on this machine."""

import os
import sys

import click

from kderm.commands.prediction import bundle_path
from kderm.errors import UserError
from kderm.runtime import check_backend

PASSWORD = "KDERM_PASSWORD"


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
    from kderm.app.serving import serve_bundle

    serve_bundle(
        bundle_path(run_name),
        host=host,
        port=port,
        user=user,
        password=password,
        engine=engine,
        views=views,
        early_exit=early_exit,
    )


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
