"""The Siaran that `siaran up` runs on this machine, as other commands find it."""

import os

from pydantic import ValidationError

from cli.errors import CommandError, usage_error
from siaran.embedded.runtime import Runtime, read_runtime
from siaran.settings import Settings

NEEDED = {
    "database_url": ("database", "DB_URI"),
    "redis_url": ("Redis", "REDIS_URL"),
    "temporal_address": ("Temporal", "TEMPORAL_ADDRESS"),
}


def read_settings() -> Settings:
    """The settings of this process; raises `CommandError` naming each variable whose value is refused."""
    try:
        return Settings()
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise usage_error("\n".join(lines)) from error


def join_running_stack() -> Runtime | None:
    """Take the addresses that no variable names from a stack that runs on the data folder; returns that stack, if any."""
    runtime = read_runtime(read_settings().data_dir)
    if runtime is not None:
        for variable, value in runtime.environment.items():
            os.environ.setdefault(variable, value)
    return runtime


def require_servers(settings: Settings, *names: str) -> None:
    """Raise `CommandError` unless there is an address for each of the servers (fields of the settings)."""
    for name in names:
        if getattr(settings, name) is None:
            title, variable = NEEDED[name]
            raise CommandError(f"no {title}: set {variable}, or start everything with `siaran up`")
