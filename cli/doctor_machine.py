"""What `siaran doctor` looks at on this machine: Python, the embedded servers' programs, their ports, the disk."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cli.doctor_checks import Check, failed, ok, skipped, warning
from siaran.embedded.errors import PortTaken, StackError
from siaran.embedded.options import PORTS, StackOptions, choose_ports
from siaran.embedded.postgres import EmbeddedPostgres
from siaran.embedded.temporal import EmbeddedTemporal
from siaran.embedded.valkey import EmbeddedValkey
from siaran.settings import Settings

OLDEST_PYTHON = (3, 11)
VERSION_SECONDS = 20
SCARCE_BYTES = 1_000_000_000
FULL_BYTES = 200_000_000

SETUP = "run `make setup`"


def check_machine(settings: Settings, options: StackOptions, *, is_running: bool) -> list[Check]:
    """Everything that can be known without asking a server."""
    checks = [check_python()]
    checks += [check_program(title, settings, program) for title, program in _programs(settings, options).items()]
    checks += [skipped("ports", "Siaran runs here")] if is_running else check_ports(settings, options)
    return [*checks, check_disk(settings.data_dir)]


def check_python() -> Check:
    """The version of Python."""
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return failed("Python", version, "Siaran needs Python 3.11 or newer")
    return ok("Python", version)


def check_program(title: str, settings: Settings, find: Callable[[], str]) -> Check:
    """Whether the program of an embedded server is there and starts."""
    name = f"program of {title}"
    address = settings.temporal_address if title == "Temporal" else None
    if address or (title == "PostgreSQL" and settings.database_url) or (title == "Valkey" and settings.redis_url):
        return skipped(name, "the server is given by a variable")
    try:
        answer = subprocess.run([find(), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True)
    except StackError as error:
        return failed(name, error.detail, SETUP)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return failed(
            name, f"does not start: {type(error).__name__}", f"{SETUP}; it needs a C library this machine may not have"
        )
    return ok(name, answer.stdout.strip().partition("\n")[0])


def _programs(settings: Settings, options: StackOptions) -> dict[str, Callable[[], str]]:
    folder = settings.data_dir.absolute()

    def valkey() -> str:
        server = EmbeddedValkey(name="valkey", title="Valkey", folder=folder, port=0, password="", append_only=False)
        return server.child().command[0]

    return {
        "PostgreSQL": lambda: EmbeddedPostgres(folder, options, "").child().command[0],
        "Valkey": valkey,
        "Temporal": lambda: EmbeddedTemporal(folder, options).child().command[0],
    }


def check_ports(settings: Settings, options: StackOptions) -> list[Check]:
    """Whether the ports that `siaran up` would take are free."""
    given = {
        "postgres_port": settings.database_url,
        "valkey_port": settings.redis_url,
        "temporal_port": settings.temporal_address,
        "temporal_ui_port": settings.temporal_address,
        "network_port": settings.network_url,
    }
    checks: list[Check] = []
    for option, (title, variable) in PORTS.items():
        port: int = getattr(options, option)
        if given.get(option) or port == 0:
            continue
        try:
            choose_ports(options, [option])
        except PortTaken:
            hint = f"stop the program that listens there, or set {variable} to another port"
            checks.append(failed(f"port of {title}", f"{port} is taken", hint))
        else:
            checks.append(ok(f"port of {title}", f"{port} is free"))
    return checks


def check_disk(data_dir: Path) -> Check:
    """How much room there is for data."""
    folder = data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.1f} GB free under {folder}"
    if free < FULL_BYTES:
        return failed("disk", detail, "PostgreSQL stops when the disk is full: make room, or set SIARAN_DATA_DIR")
    if free < SCARCE_BYTES:
        return warning("disk", detail, "make room, or set SIARAN_DATA_DIR to a folder on a larger disk")
    return ok("disk", detail)
