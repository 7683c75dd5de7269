"""Exporting leads as CSV, in pages."""

from collections.abc import AsyncIterator
from uuid import UUID

from sqlalchemy import Text, cast, func, select

from siaran.db import SessionMaker
from siaran.lead_columns import COLUMNS
from siaran.leads import LeadFilter
from siaran.leads_csv import write_records
from siaran.models import Device, Lead

PAGE_ROWS = 5_000


async def export_leads(sessions: SessionMaker, user_id: UUID, wanted: LeadFilter) -> AsyncIterator[bytes]:
    """A user's leads that meet a filter as CSV in UTF-8, oldest first; importing it again changes nothing.

    Every page is a short transaction of its own: a cursor would keep one open, and with it every dead row of the database,
    for as long as the slowest reader takes. A deleted device is left out, as no row may name one.
    """
    yield write_records([COLUMNS])
    device_cell = func.coalesce(cast(Device.id, Text), "")
    last_id = 0
    while True:
        query = (
            select(Lead.id, Lead.name, Lead.phone, Lead.niche, Lead.target_status, Lead.journey, device_cell)
            .outerjoin(Device, (Device.id == Lead.device_id) & (Device.user_id == user_id) & Device.deleted_at.is_(None))
            .where(wanted.condition(user_id), Lead.id > last_id)
            .order_by(Lead.id)
            .limit(PAGE_ROWS)
        )
        async with sessions.begin() as session:
            rows = (await session.execute(query)).all()
        if not rows:
            return
        yield write_records([row[1:] for row in rows])
        last_id = rows[-1][0]
