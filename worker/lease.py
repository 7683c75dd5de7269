"""A host's lease: one row in PostgreSQL, renewed every few seconds, whose end fences the host's claims."""

import asyncio
import os
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from siaran.db import SessionMaker
from siaran.models import TransportKind

log = structlog.get_logger()

LEASE = timedelta(seconds=15)
RENEW_SECONDS = 3.0

_BEGIN = text("""
    INSERT INTO hosts (server, transport, capacity, expires_at) VALUES (:server, :transport, :capacity, now() + :lease)
    RETURNING id
""")

_RENEW = text("""
    UPDATE hosts SET expires_at = now() + :lease, pid = :pid WHERE id = :host AND ended_at IS NULL RETURNING id
""")

# The row lock waits for claims that hold the lease FOR SHARE: after it, no claim of this host is left to be committed.
_END = text("UPDATE hosts SET ended_at = now() WHERE id = :host AND ended_at IS NULL")

_RELEASE = text("""
    UPDATE user_devices SET host_id = NULL,
        offline_since_at = CASE WHEN status = 'online' THEN now() ELSE offline_since_at END,
        status = CASE WHEN status = 'online' THEN 'connecting' ELSE status END
    WHERE host_id = :host
    RETURNING id
""")


class LeaseLost(Exception):
    """Somebody has ended this host: its devices belong to others now."""


async def begin_lease(sessions: SessionMaker, server: str, transport: TransportKind, capacity: int) -> int:
    """Make the row of a new host; returns its id, the epoch that fences its claims."""
    async with sessions.begin() as session:
        values = {"server": server, "transport": transport.value, "capacity": capacity, "lease": LEASE}
        host_id: int = (await session.execute(_BEGIN, values)).scalar_one()
        return host_id


async def renew_lease(sessions: SessionMaker, host_id: int) -> None:
    """Renew the lease once; raises `LeaseLost` when it has been ended."""
    async with sessions.begin() as session:
        renewed = await session.execute(_RENEW, {"host": host_id, "lease": LEASE, "pid": os.getpid()})
        if renewed.first() is None:
            raise LeaseLost


async def keep_lease(sessions: SessionMaker, host_id: int) -> None:
    """Renew the lease until it is lost; while PostgreSQL is away nothing can be claimed, so that is waited out."""
    while True:
        try:
            await renew_lease(sessions, host_id)
        except (SQLAlchemyError, OSError) as error:
            log.warning("lease_not_renewed", host=host_id, error=type(error).__name__)
        await asyncio.sleep(RENEW_SECONDS)


async def end_host(sessions: SessionMaker, host_id: int) -> list[UUID]:
    """End a host that is dead or drained and set its devices free; returns them. Ending it twice changes nothing."""
    async with sessions.begin() as session:
        await session.execute(_END, {"host": host_id})
        return list((await session.execute(_RELEASE, {"host": host_id})).scalars())
