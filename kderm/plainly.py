"""How a command that cannot go on says so: one paragraph and an exit code, never a traceback."""

import functools
import shlex
import sys
from collections.abc import Callable

import click

from kderm import console
from kderm.errors import UserError
from kderm.leftovers import own_temporary_files


def plainly(command: Callable) -> Callable:
    """Tell a user's mistake as one paragraph (exit 2) and Ctrl-C as a way to go on (exit 130)."""

    @functools.wraps(command)
    def wrapper(*args: object, **kwargs: object) -> object:
        try:
            with own_temporary_files():
                return command(*args, **kwargs)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except BrokenPipeError:  # whoever reads the output has had enough
            sys.stdout = None
            sys.exit(1)
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            click.echo(
                f"error: The system refused a file operation ({error.strerror or error}{place}). "
                "Expected enough room and the right to read and write there. What was finished "
                "before is kept: mend it and repeat the command.",
                err=True,
            )
            sys.exit(2)
        except KeyboardInterrupt:
            again = f"{console.program()} {shlex.join(sys.argv[1:])}"
            click.echo(f"\ninterrupted; nothing is lost. Go on with: {again}", err=True)
            sys.exit(130)

    return wrapper
