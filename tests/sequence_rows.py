"""Rows of sequences that tests begin with: a sequence with its steps, and contacts in it."""

from collections.abc import Mapping
from datetime import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Enrollment, EnrollmentStatus, Lead, Sequence, SequenceStatus, SequenceStep, User
from tests.factories import NOW, add_lead


async def add_sequence(
    session: AsyncSession, user: User, steps: Mapping[int, time | None] | None = None, **columns: Any
) -> Sequence:
    """An active sequence without delays, with a step for each day at its time; three days at nine unless told otherwise."""
    defaults: dict[str, Any] = {
        "name": "Promo Merdeka",
        "status": SequenceStatus.ACTIVE,
        "min_delay_seconds": 0,
        "max_delay_seconds": 0,
    }
    sequence = Sequence(user_id=user.id, **{**defaults, **columns})
    session.add(sequence)
    await session.flush()
    for day, at in ({1: time(9), 2: time(9), 3: time(9)} if steps is None else steps).items():
        session.add(
            SequenceStep(user_id=user.id, sequence_id=sequence.id, day=day, content=f"Day {day}, {{{{name}}}}", send_time=at)
        )
    await session.flush()
    return sequence


async def add_contact(session: AsyncSession, sequence: Sequence, lead: Lead | None = None, **columns: Any) -> Enrollment:
    """A contact of a sequence who is a lead, enrolled at `NOW` and not placed yet; its workflow counts as started."""
    if lead is None:
        lead = await add_lead(session, await session.get_one(User, sequence.user_id))
    defaults: dict[str, Any] = {
        "lead_id": lead.id,
        "contact_phone": lead.phone,
        "contact_name": lead.name,
        "status": EnrollmentStatus.ACTIVE,
        "enrolled_at": NOW,
        "workflow_started_at": NOW,
    }
    contact = Enrollment(user_id=sequence.user_id, sequence_id=sequence.id, **{**defaults, **columns})
    session.add(contact)
    await session.flush()
    return contact
