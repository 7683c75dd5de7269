"""The log of sequences: what happened to each contact, written in the transaction of what it tells about."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import SequenceLog


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a contact, such as `queued`; `detail` has no phone numbers or texts."""

    user_id: UUID
    sequence_id: UUID
    enrollment_id: int
    what: str
    at: datetime
    step_id: UUID | None = None
    detail: str | None = None


async def log_events(session: AsyncSession, events: Rows[Event]) -> None:
    """Write events down; the caller commits."""
    if not events:
        return
    lines = [
        {
            "user_id": event.user_id,
            "sequence_id": event.sequence_id,
            "enrollment_id": event.enrollment_id,
            "step_id": event.step_id,
            "event": event.what,
            "detail": event.detail,
            "created_at": event.at,
        }
        for event in events
    ]
    await session.execute(insert(SequenceLog), lines)
