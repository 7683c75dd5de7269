"""`python -m api`: serves the API until SIGTERM or SIGINT."""

import ipaddress
import signal
import sys

import uvicorn
import uvloop

from api.app import create_app
from siaran.accounts import ensure_administrator, find_default_administrator
from siaran.clock import system_clock
from siaran.db import open_database
from siaran.logging import configure_logging
from siaran.settings import Settings, get_settings

STOP_SECONDS = 10
"""How long open requests, live pages among them, may go on once the process is told to stop."""


def is_loopback(address: str) -> bool:
    """Whether only programs on this machine can connect to an address; a name other than `localhost` counts as public."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


async def refuse_default_password(settings: Settings) -> None:
    """Exit with a message when others could connect while an administrator has the published password."""
    if is_loopback(settings.bind):
        return
    async with open_database(settings, pool_size=1) as sessions:
        await ensure_administrator(sessions, settings, system_clock())
        async with sessions.begin() as session:
            user = await find_default_administrator(session)
    if user is not None:
        sys.exit(
            f"refusing to listen on {settings.bind}:{settings.port}, where others can connect: the administrator {user.email} "
            "still has the published password. Set APP_BASIC_AUTH=user:password, or listen on 127.0.0.1 and change it."
        )


async def serve(settings: Settings) -> None:
    """Serve until told to stop."""
    await refuse_default_password(settings)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.bind,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
    )
    await uvicorn.Server(config).serve()


def _stop(*_: object) -> None:
    sys.exit(0)


def main() -> None:
    """Serve with the settings of the environment; a stop that was asked for is no failure."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    for stop in (signal.SIGTERM, signal.SIGINT):
        # Uvicorn raises the signal once more when it has stopped, for whoever handled it before.
        signal.signal(stop, _stop)
    uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
