"""What the throw-away processes for links have in common: how they begin, and that they end at once."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from siaran.logging import configure_logging
from siaran.settings import Settings, get_settings

log = structlog.get_logger()

Work = Callable[[Settings, str], Awaitable[None]]


def run_and_leave(option: str, work: Work) -> NoReturn:
    """Do one piece of work for the row that the command line names, and end the process without any cleaning up.

    Threads of the WhatsApp library may hang for ever once QR codes have been shown, and would keep a process from ending.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument(option, dest="row", required=True)
    row = parser.parse_args().row
    settings = get_settings()
    configure_logging(debug=settings.debug)
    asyncio.run(_leave_after(work(settings, row)))
    raise AssertionError("the process has ended before")


def begin_again() -> NoReturn:
    """Replace this process by itself as it was started: the only way to be rid of a client that hangs and have a new one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 -- there is no shell to be had, nor wanted


async def _leave_after(work: Awaitable[None]) -> None:
    code = 1
    try:
        await work
        code = 0
    except Exception:
        log.exception("linking_process_failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
