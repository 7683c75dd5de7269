"""One command's talk with the API: opens the client, and ends every error in a message and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.errors import CommandError
from cli.logins import Login, present_login
from cli.output import print_error

if TYPE_CHECKING:
    from cli.client import Client

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Show a `CommandError` as what it is and exit with its code."""
    try:
        yield
    except CommandError as error:
        print_error(error, as_json)
        raise typer.Exit(error.exit_code) from error


@contextmanager
def connected(as_json: bool = False, login: Login | None = None) -> Iterator["Client"]:
    """A client that is logged in, errors reported; raises `typer.Exit`."""
    from cli.client import Client  # noqa: PLC0415 -- `siaran --help` need not wait for an HTTP library

    with reported(as_json), Client(login or present_login()) as client:
        yield client


def confirm(question: str, *, yes: bool, as_json: bool) -> None:
    """Ask, unless told not to; raises `CommandError` where nobody can be asked and `typer.Abort` for a no."""
    if yes:
        return
    if as_json:
        raise CommandError(f"{question} Say --yes to go on.")
    typer.confirm(question, abort=True)
