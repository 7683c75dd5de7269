"""What the demo runs on: a Siaran of its own, with fresh data, on ports that nobody uses."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from cli.errors import CommandError
from cli.running_stack import read_settings
from siaran.embedded.app import start_app
from siaran.embedded.errors import PortTaken
from siaran.embedded.options import PORTS, StackOptions, choose_ports
from siaran.embedded.runtime import read_runtime
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings

DEVICES_A_HOST = 5
FAILOVER_SECONDS = 5
RECEIPT_WAIT_SECONDS = 6
"""Twice as long as a receipt takes on the simulated network."""

APP_ENVIRONMENT = {
    "SIARAN_SIMULATED_HOST_CAPACITY": str(DEVICES_A_HOST),
    "SIARAN_FAILOVER_AFTER_SECONDS": str(FAILOVER_SECONDS),
    "SIARAN_RECEIPT_WAIT_SECONDS": str(RECEIPT_WAIT_SECONDS),
}


@asynccontextmanager
async def demo_servers() -> AsyncIterator[EmbeddedStack]:
    """A running Siaran with nothing in it; raises `StackError` or `CommandError`."""
    data_dir = read_settings().data_dir / "demo"
    forget_settings_from_outside()
    empty(data_dir)
    options = free_ports(StackOptions())
    async with EmbeddedStack(Settings(data_dir=data_dir), options, app_ports=("api_port",)) as stack:
        await start_app(stack, APP_ENVIRONMENT)
        yield stack


def forget_settings_from_outside() -> None:
    """Drop every variable that could lead this process or its children to somebody's real servers."""
    for name in _variables_of(Settings) | _variables_of(StackOptions):
        os.environ.pop(name, None)


def empty(data_dir: Path) -> None:
    """Remove what an earlier demo left; raises `CommandError` while one still runs there."""
    if (running := read_runtime(data_dir)) is not None:
        raise CommandError(f"another demo runs on {data_dir} (process {running.owner.pid}); stop it first")
    if data_dir.exists():
        shutil.rmtree(data_dir)


def free_ports(options: StackOptions) -> StackOptions:
    """The options with 0, any free port, in place of each that is taken."""
    taken: dict[str, int] = {}
    for name in PORTS:
        try:
            choose_ports(options, [name])
        except PortTaken:
            taken[name] = 0
    return options.model_copy(update=taken)


def host_processes(stack: EmbeddedStack) -> list[psutil.Process]:
    """The device hosts of this demo's fleet, oldest first."""
    fleet = stack.supervisor.pid("fleet")
    if fleet is None:
        return []
    try:
        hosts = [child for child in psutil.Process(fleet).children() if "worker.host" in child.cmdline()]
    except psutil.NoSuchProcess:
        return []
    return sorted(hosts, key=lambda host: (host.create_time(), host.pid))


def memory_by_process(stack: EmbeddedStack) -> dict[str, int]:
    """Bytes of memory of each process with its children, shared pages divided among those who share them."""
    used: dict[str, int] = {}
    for state in stack.supervisor.states():
        if state.pid is None:
            continue
        try:
            process = psutil.Process(state.pid)
            children = process.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        used[state.title] = _memory(process)
        if state.name == "fleet":
            used |= {f"Host {number}": _memory(host) for number, host in enumerate(host_processes(stack), 1)}
        else:
            used[state.title] += sum(_memory(child) for child in children)
    return used


def _memory(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
    return int(getattr(memory, "pss", memory.uss))


def _variables_of(model: type[BaseSettings]) -> set[str]:
    names: set[str] = set()
    for field in model.model_fields.values():
        alias = field.validation_alias
        names |= {choice for choice in alias.choices if isinstance(choice, str)} if isinstance(alias, AliasChoices) else set()
        names |= {alias} if isinstance(alias, str) else set()
    return names
