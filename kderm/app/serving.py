"""A bundle becomes a page: load, warm up, serve, end tidily. For `serve` and for Spaces."""

import os
import sys
from pathlib import Path

from kderm import console
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
from kderm.ensemble.cautions import early_exit_warnings

_HERE = ("localhost", "127.0.0.1", "::1")
# Where Hugging Face shows a Space within its own site.
_HUGGING_FACE = "https://huggingface.co"


def serve_bundle(
    place: str | os.PathLike,
    *,
    host: str = "localhost",
    port: int = 7860,
    user: str | None = None,
    password: str | None = None,
    framed_by: str = "",
    **settings: object,
) -> None:
    """Serve the page of the bundle at `place` until Ctrl-C or SIGTERM.

    Args:
        place: a run's folder, one that holds a bundle, or an `ensemble.json`.
        host, port: where to listen; port 0 takes any free one.
        user, password: asked for at the door; None for an open one.
        framed_by: another site that may show the page within its own, or "".
        **settings: of `kderm.api.loaded.load_ensemble`: engine, views, early_exit.

    Raises:
        UserError: Gradio is not installed, no such bundle, or the port is taken.
    """
    from kderm.api.loaded import load_ensemble

    try:
        with stopped_by_signals(), Workroom() as workroom:
            prepare_gradio(workroom)
            opened = open_socket(host, port)
            ensemble = load_ensemble(place, **settings)
            for caution in early_exit_warnings(ensemble.bundle, ensemble.settings):
                console.warn(caution)
            console.say("warming up; the first answer would wait for it otherwise")
            warm_up(ensemble)
            app = build_app(ensemble, workroom, user=user, password=password, framed_by=framed_by)
            if host not in _HERE and user is None and not framed_by:
                console.warn(
                    "Whoever reaches this machine can use the page: there is no password. Set one "
                    "with --user NAME and the environment variable KDERM_PASSWORD."
                )
            run(app, opened, lambda: _announce(address(opened, host)))
    except Stopped:
        console.say("The page is closed. Nothing was kept.")


def serve_space(folder: Path) -> None:
    """Serve the bundle in `folder` as a Space does, or on this machine alone where it is none."""
    of_hugging_face = "SPACE_ID" in os.environ
    host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0" if of_hugging_face else "localhost")
    serve_bundle(
        folder,
        host=host,
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        framed_by=_HUGGING_FACE if of_hugging_face else "",
    )


def _announce(where: str) -> None:
    console.say(f"The page: {where}")
    console.say("No medical device. Ctrl-C ends it.")
    sys.stdout.flush()
