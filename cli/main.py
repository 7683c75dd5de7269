"""The command line `siaran`."""

import typer

from cli.up import up

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.command()(up)
