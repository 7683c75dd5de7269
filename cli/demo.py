"""`siaran demo`: everything once, on servers of its own, in about a minute."""

from importlib import import_module
from typing import Annotated

import typer

from cli.session import reported


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Tell on stderr; the last line of stdout is a JSON summary.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, to look around, until Ctrl-C.")] = False,
) -> None:
    """Send a campaign from 15 simulated devices, with a dropped device, failures and a killed host on the way.

    Runs on servers of its own with fresh data. Exits 0 only if nothing was lost or duplicated and the totals add up.
    """
    with reported(as_json):
        # The whole product comes along: `siaran --help` need not wait for it.
        code: int = import_module("cli.demo_run").run_demo(as_json=as_json, keep=keep)
    raise typer.Exit(code)
