"""Runs the demo from start to end: servers, story, result, and a clean stop whenever it is asked for."""

import asyncio
import contextlib
import signal

from rich.table import Table
from rich.text import Text

from cli.demo_result import Result, read_result, result_view
from cli.demo_screen import Screen
from cli.demo_servers import demo_servers
from cli.demo_story import EMAIL, PASSWORD, begin, prepare, retry_failed, send
from cli.errors import CommandError, ExitCode
from cli.output import console, errors, print_json
from siaran.accounts import first_administrator
from siaran.embedded.app import api_url
from siaran.embedded.errors import StackError
from siaran.embedded.stack import EmbeddedStack
from siaran.temporal_ui import EXECUTIONS_PATH

STOPPED = 130
"""The exit code of a program that Ctrl-C ended."""


def run_demo(*, as_json: bool, keep: bool) -> int:
    """Run the demo; returns the exit code. Raises `CommandError` when it cannot start."""
    try:
        return asyncio.run(_run_until_stopped(as_json=as_json, keep=keep))
    except StackError as error:
        raise CommandError(error.detail, name=error.code) from error


async def _run_until_stopped(*, as_json: bool, keep: bool) -> int:
    screen = Screen(errors if as_json else console)
    demo = asyncio.create_task(_run(screen, as_json=as_json, keep=keep))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, demo.cancel)
    try:
        return await demo
    except asyncio.CancelledError:
        screen.say("Stopped")
        return STOPPED


async def _run(screen: Screen, *, as_json: bool, keep: bool) -> int:
    screen.say("Starting PostgreSQL, Valkey, Temporal, the API, the worker and the fleet …")
    async with demo_servers() as stack:
        result = await _tell(stack, screen)
        code = ExitCode.FAILED if result.faults() else ExitCode.OK
        screen.show(result_view(result))
        screen.show(links(stack, keep=keep))
        if as_json:
            print_json(result.summary())
        if keep:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            screen.say("Stopping …")
    return code


async def _tell(stack: EmbeddedStack, screen: Screen) -> Result:
    screen.say("Everything runs")
    story = await begin(stack, screen)
    try:
        await prepare(story)
        await send(story)
        await retry_failed(story)
        return await read_result(story)
    except TimeoutError as error:
        raise CommandError(f"the demo got stuck; the logs are in {stack.data_dir / 'logs'}") from error
    finally:
        for incident in story.incidents:
            incident.cancel()
        story.client.close()


def links(stack: EmbeddedStack, *, keep: bool) -> Table:
    """Where to look around."""
    table = Table.grid(padding=(0, 2))
    administrator, password = first_administrator(stack.settings)
    rows = {
        "API and its documentation": f"{api_url(stack)}/docs",
        "Temporal UI": f"{api_url(stack)}{EXECUTIONS_PATH} (as {administrator} with the password: {password})",
        "Log in as": f"{EMAIL} with the password: {PASSWORD}",
        "Data and logs": str(stack.data_dir),
        "Stop with": "Ctrl-C",
    }
    shown = rows if keep else {"Look around with": "siaran demo --keep", "Data and logs": rows["Data and logs"]}
    for name, value in shown.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table
