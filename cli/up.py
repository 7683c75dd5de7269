"""`siaran up`: the whole product on one machine, kept running until it is told to stop."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from siaran.embedded.app import api_url, start_app
from siaran.embedded.errors import StackError
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings
from siaran.temporal_ui import EXECUTIONS_PATH

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

console = Console()
errors = Console(stderr=True, soft_wrap=True)


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the embedded servers' data. Overrides SIARAN_DATA_DIR.", show_default=".siaran"),
    ] = None,
) -> None:
    """Run the API, the worker and the fleet, with every server that no variable names an address for."""
    try:
        options = StackOptions()
        # The API's port may be 0 here, for any free one, which no process but this one understands.
        settings = Settings(port=options.api_port or StackOptions.model_fields["api_port"].default)
    except ValidationError as error:
        errors.print(f"[red]{describe(error)}[/red]")
        raise typer.Exit(2) from error
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    try:
        asyncio.run(run_until_stopped(settings, options))
    except StackError as error:
        errors.print(Text(error.detail, style="red"))
        raise typer.Exit(1) from error


def describe(error: ValidationError) -> str:
    """One line for each variable whose value was refused."""
    return "\n".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())


async def run_until_stopped(settings: Settings, options: StackOptions) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP, then stop in order; a second signal stops at once.

    Raises `StackError` when something does not start.
    """
    stack = EmbeddedStack(settings, options, app_ports=("api_port",))
    running = asyncio.create_task(_run(stack))
    stops = 0
    abort: asyncio.Task[None] | None = None

    def stop() -> None:
        nonlocal stops, abort
        stops += 1
        if stops == 1:
            console.print("Stopping; once more stops at once.")
            running.cancel()
        elif abort is None:
            abort = asyncio.create_task(stack.supervisor.stop_all(at_once=True))

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await running
        if abort:
            await abort
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _run(stack: EmbeddedStack) -> None:
    async with contextlib.AsyncExitStack() as exits:
        with console.status("Starting the servers …"):
            await exits.enter_async_context(stack)
        with console.status("Starting the API, the worker and the fleet …"):
            await start_app(stack)
        console.print(_addresses(stack))
        await _show_states(stack)


def _addresses(stack: EmbeddedStack) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = {
        "API and its documentation": f"{api_url(stack)}/docs",
        "Temporal UI": f"{api_url(stack)}{EXECUTIONS_PATH}" if stack.settings.temporal_ui_url else "(set TEMPORAL_UI_URL)",
        "Data and logs": str(stack.data_dir),
        "Stop with": "Ctrl-C",
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


async def _show_states(stack: EmbeddedStack) -> None:
    """Show on a terminal how the processes are; wait for ever otherwise."""
    if not console.is_terminal:
        await asyncio.Event().wait()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_states(stack), refresh=True)
            await asyncio.sleep(1)


def _states(stack: EmbeddedStack) -> Text:
    line = Text()
    for state in stack.supervisor.states():
        line.append("● ", style="green" if state.pid else "red")
        line.append(state.title)
        if state.restarts:
            line.append(f" (restarted {state.restarts}x)", style="yellow")
        line.append("  ")
    return line
