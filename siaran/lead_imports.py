"""Imports of leads that go on by themselves: created with an uploaded file, looked at, cancelled, cleared away."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import BinaryIO
from uuid import UUID

from sqlalchemy import func, insert, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_import
from siaran.db import SessionMaker
from siaran.devices import get_device
from siaran.errors import Conflict, Invalid, NotFound
from siaran.lead_columns import Header
from siaran.lead_rows import REASON_COLUMNS, Verdict
from siaran.leads_csv import LeadFile, write_records
from siaran.models import ImportChunk, ImportRejection, ImportRow, ImportStatus, LeadImport
from siaran.tenancy import get_owned, select_owned

CHUNK_BYTES = 2**20
"""How much of a file one row of `lead_import_chunks` holds, and how much of it is in memory at once."""

OPEN = (ImportStatus.QUEUED, ImportStatus.RUNNING)
MOST_OPEN = 5
"""Imports of one user that may wait or run at a time, so that nobody fills the database with uploads."""

KEPT_FOR = timedelta(days=30)
"""How long the rejected rows and the verdicts of an import can be looked at."""

FORGOTTEN = timedelta(minutes=1)
"""An import that has moved on in this time is being worked on."""

_CLEARED_AT_ONCE = 5_000
_CHUNKS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """What is asked for: the device of new leads whose row names none, whether only to say what would happen, and how to read.

    `country` is that of phones written without one; `columns` and `delimiter` are as for `LeadFile`.
    """

    country: str
    file_name: str
    device_id: UUID | None = None
    is_dry_run: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ""


async def add_import(session: AsyncSession, user_id: UUID, order: ImportOrder, file: BinaryIO, now: datetime) -> LeadImport:
    """Store a file and an import of it that waits to be begun.

    Raises `Invalid` for a file that is none of leads, has no rows or does not fit `columns`, `NotFound` for someone else's
    device, and `Conflict` while too many imports of the user are open.
    """
    if order.device_id is not None:
        await get_device(session, user_id, order.device_id)
    await _refuse_too_many(session, user_id)
    delimiter, header = await asyncio.to_thread(_read_form, file, order)
    row = LeadImport(
        user_id=user_id,
        device_id=order.device_id,
        file_name=order.file_name,
        size_bytes=0,
        is_dry_run=order.is_dry_run,
        columns={**{column: "" for column, heading in order.columns.items() if not heading.strip()}, **header.headings},
        delimiter=delimiter,
        country=order.country,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await session.flush()
    row.size_bytes = await _store(session, row, file)
    first = write_records([[*header.cells, *REASON_COLUMNS]])
    session.add(ImportRejection(import_id=row.id, position=0, user_id=user_id, content=first))
    return row


async def _refuse_too_many(session: AsyncSession, user_id: UUID) -> None:
    is_open = select_owned(LeadImport, user_id).where(LeadImport.status.in_(OPEN)).with_only_columns(func.count())
    if (await session.execute(is_open)).scalar_one() >= MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} of your imports are under way; wait for one to end, or cancel one")


def _read_form(file: BinaryIO, order: ImportOrder) -> tuple[str, Header]:
    """The separator and the header of a file that has rows; leaves it at its beginning."""
    lead_file = LeadFile(file, order.columns, order.delimiter)
    if next(lead_file.records(), None) is None:
        raise Invalid.field("file", "has no rows below its header")
    file.seek(0)
    return lead_file.delimiter, lead_file.header


async def _store(session: AsyncSession, row: LeadImport, file: BinaryIO) -> int:
    """Copy the file into chunks; returns its size in bytes."""
    size = position = 0
    while content := await asyncio.to_thread(file.read, CHUNK_BYTES):
        chunk = {"import_id": row.id, "position": position, "user_id": row.user_id, "content": content}
        await session.execute(insert(ImportChunk), chunk)
        size += len(content)
        position += 1
    return size


async def get_import(session: AsyncSession, user_id: UUID, import_id: UUID, *, lock: bool = False) -> LeadImport:
    """A user's import; raises `NotFound` for anyone else's."""
    return await get_owned(session, LeadImport, user_id, LeadImport.id == import_id, lock=lock)


async def list_imports(
    session: AsyncSession, user_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[LeadImport]:
    """A user's imports, newest first, beginning behind one that was created at `after[0]` with the id `after[1]`."""
    keys = tuple_(LeadImport.created_at, LeadImport.id)
    query = select_owned(LeadImport, user_id).order_by(LeadImport.created_at.desc(), LeadImport.id.desc()).limit(limit)
    return list(await session.scalars(query if after is None else query.where(keys < after)))


async def cancel_import(session: AsyncSession, user_id: UUID, import_id: UUID, now: datetime) -> LeadImport:
    """End an import where it stands: what is imported stays. Raises `Conflict` when it has ended by itself."""
    row = await get_import(session, user_id, import_id, lock=True)
    if row.status in OPEN:
        row.status, row.finished_at, row.updated_at = ImportStatus.CANCELLED, now, now
        note_import(session, row)
    elif row.status is not ImportStatus.CANCELLED:
        raise Conflict(f"this import is {row.status.value} already")
    return row


async def list_rows(
    session: AsyncSession, user_id: UUID, import_id: UUID, *, verdict: Verdict | None, limit: int, after_line: int = 0
) -> list[ImportRow]:
    """What became of single rows, in the order of the file, beginning behind a line."""
    query = (
        select_owned(ImportRow, user_id)
        .where(ImportRow.import_id == import_id, ImportRow.line > after_line)
        .order_by(ImportRow.line)
        .limit(limit)
    )
    return list(await session.scalars(query if verdict is None else query.where(ImportRow.verdict == verdict.value)))


async def rejected_csv(sessions: SessionMaker, user_id: UUID, import_id: UUID) -> AsyncIterator[bytes]:
    """The rows rejected so far as CSV: their cells as in the file, then line, verdict and reason."""
    position = -1
    while True:
        query = (
            select_owned(ImportRejection, user_id)
            .where(ImportRejection.import_id == import_id, ImportRejection.position > position)
            .order_by(ImportRejection.position)
            .limit(1)
        )
        async with sessions.begin() as session:
            found = (await session.scalars(query)).one_or_none()
        if found is None:
            return
        position = found.position
        yield found.content


def check_kept(row: LeadImport) -> None:
    """Raises `NotFound` when what became of single rows is no longer kept."""
    if row.cleared_at is not None:
        raise NotFound(f"what became of single rows is kept for {KEPT_FOR.days} days")


_DISCARD = text("""
    DELETE FROM lead_import_chunks WHERE user_id = :user AND import_id = :import AND position IN (
        SELECT position FROM lead_import_chunks WHERE import_id = :import ORDER BY position LIMIT :most
    )
    RETURNING position
""")


async def discard_chunks(session: AsyncSession, user_id: UUID, import_id: UUID) -> bool:
    """Delete some of the stored file of an import that has ended; returns whether more of it may be left."""
    values = {"user": user_id, "import": import_id, "most": _CHUNKS_AT_ONCE}
    return len((await session.execute(_DISCARD, values)).all()) == _CHUNKS_AT_ONCE


# An import that was cancelled while nothing worked on it has nobody else to remove its file.
_LEFT_OVER = text("""
    SELECT DISTINCT c.import_id, c.user_id FROM lead_import_chunks c JOIN lead_imports i ON i.id = c.import_id
    WHERE i.status NOT IN ('queued', 'running') AND i.finished_at < :late LIMIT 1
""")


async def clear_leftovers(session: AsyncSession, now: datetime) -> int:
    """Delete some of what ended imports have left: files at once, rows after `KEPT_FOR`; returns how many are rid of all."""
    left = (await session.execute(_LEFT_OVER, {"late": now - FORGOTTEN})).one_or_none()
    if left is not None:
        await discard_chunks(session, left.user_id, left.import_id)
    old = (
        select(LeadImport)
        .where(LeadImport.cleared_at.is_(None), LeadImport.finished_at < now - KEPT_FOR)
        .order_by(LeadImport.finished_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = (await session.scalars(old)).one_or_none()
    if row is None:
        return 0
    for table in ("lead_import_rejections", "lead_import_rows"):
        if await _clear(session, table, row) == _CLEARED_AT_ONCE:
            return 0
    row.cleared_at = now
    return 1


async def _clear(session: AsyncSession, table: str, row: LeadImport) -> int:
    statement = text(f"""
        DELETE FROM {table} WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {table} WHERE user_id = :user AND import_id = :import LIMIT :most
        )) RETURNING 1
    """)  # noqa: S608 -- one of two constants
    values = {"user": row.user_id, "import": row.id, "most": _CLEARED_AT_ONCE}
    return len((await session.execute(statement, values)).all())


async def forgotten_imports(session: AsyncSession, now: datetime) -> list[LeadImport]:
    """Open imports that have not moved for a while: whoever created them may have died before starting their workflow."""
    query = select(LeadImport).where(LeadImport.status.in_(OPEN), LeadImport.updated_at < now - FORGOTTEN)
    return list(await session.scalars(query.order_by(LeadImport.updated_at).limit(100)))
