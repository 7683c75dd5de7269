"""A patrol: looking again and again at what is to be done, until told to stop."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

log = structlog.get_logger()


async def patrol(look: Callable[[], Awaitable[None]], stop: asyncio.Event, *, every_seconds: float, waits: str) -> None:
    """Look every so often until `stop`; while PostgreSQL or the disk is away it is logged as `waits` and tried again."""
    while not stop.is_set():
        try:
            await look()
        except (SQLAlchemyError, OSError) as error:
            log.warning(waits, error=type(error).__name__)
        try:
            await asyncio.wait_for(stop.wait(), every_seconds)
        except TimeoutError:
            continue
