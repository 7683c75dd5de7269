"""Carries out the checks of `siaran doctor`."""

import asyncio

from pydantic import ValidationError

from cli.doctor_checks import Check
from cli.doctor_machine import check_machine
from cli.doctor_servers import check_api, check_database, check_network, check_redis
from cli.doctor_temporal import check_temporal
from cli.errors import usage_error
from cli.running_stack import join_running_stack, read_settings
from siaran.embedded.options import LOOPBACK, StackOptions
from siaran.embedded.runtime import Runtime
from siaran.settings import Settings


def examine() -> list[Check]:
    """All checks, on the servers that variables name or that `siaran up` runs here; raises `CommandError`."""
    before = read_settings()
    try:
        options = StackOptions()
    except ValidationError as error:
        raise usage_error(str(error)) from error
    runtime = join_running_stack()
    machine = check_machine(before, options, is_running=runtime is not None)
    return machine + asyncio.run(_ask_servers(read_settings(), runtime))


async def _ask_servers(settings: Settings, runtime: Runtime | None) -> list[Check]:
    database, redis, network, temporal = await asyncio.gather(
        check_database(settings), check_redis(settings), check_network(settings), check_temporal(settings)
    )
    api = await check_api(_api_url(settings, runtime), is_expected=runtime is not None)
    return [*database, redis, network, *temporal, api]


def _api_url(settings: Settings, runtime: Runtime | None) -> str:
    port = runtime.ports.get("api", settings.port) if runtime else settings.port
    host = LOOPBACK if settings.bind in {"0.0.0.0", "::"} else settings.bind  # noqa: S104 -- compared, not bound
    return f"http://{host}:{port}"
