"""`siaran up | api | worker | fleet | migrate`: Siaran's own processes, run inside this one.

Each is imported when it is asked for: they bring the whole product along, and `siaran --help` need not wait for that.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.session import reported

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the embedded servers' data. Overrides SIARAN_DATA_DIR.", show_default=".siaran"),
]


def up(data_dir: DataDir = None) -> None:
    """Run the API, the worker and the fleet, with every server that no variable names an address for."""
    import_module("cli.up").up(data_dir)


def api() -> None:
    """Run the API alone, on the servers that the variables name or that `siaran up` runs here."""
    _prepare("database_url", "redis_url", "temporal_address")
    import_module("api.__main__").main()


def worker() -> None:
    """Run a worker alone: workflows and database activities."""
    _prepare("database_url", "redis_url", "temporal_address")
    import_module("worker.__main__").main()


def fleet() -> None:
    """Run the fleet of this server alone: the device hosts."""
    _prepare("database_url", "redis_url", "temporal_address")
    import_module("worker.fleet").main()


def migrate() -> None:
    """Bring the database's schema up to date."""
    settings = _prepare("database_url")
    import_module("siaran.db").migrate(settings)
    typer.echo("The schema is up to date.")


def _prepare(*servers: str) -> Any:
    """The settings, with the addresses of a stack that runs here; ends the command where one is missing."""
    stack = import_module("cli.running_stack")
    with reported(as_json=False):
        stack.join_running_stack()
        settings = stack.read_settings()
        stack.require_servers(settings, *servers)
    return settings
