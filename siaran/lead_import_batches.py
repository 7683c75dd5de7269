"""Working through an import: its file as it is stored, and one batch after another, each in a transaction of its own."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_import
from siaran.errors import Conflict, NotFound
from siaran.lead_imports import OPEN, get_import
from siaran.lead_merge import MergeRules, compare_rows, merge_rows
from siaran.lead_rows import Batch, Verdict
from siaran.leads_csv import write_records
from siaran.models import Device, ImportChunk, ImportRejection, ImportRow, ImportStatus, LeadImport
from siaran.tenancy import select_owned

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DRY_RUN_ROWS = 50_000
"""Rows of a dry run of which a verdict each is kept. People look at the first ones and at the rejected ones, which the file to
download has in full; a million more would make a run that changes nothing write as much as one that does."""

REJECTED_ROWS = 1_000
"""Rejected rows of an import that can be looked at one by one, beside the file to download, which has them all."""


class StoredFile(io.RawIOBase):
    """An uploaded file as its chunks, read forward; `fetch` hands out a chunk by its position, `None` where there is none.

    Raises `NotFound` when a part of it is missing.
    """

    def __init__(self, fetch: Callable[[int], bytes | None], size_bytes: int) -> None:
        self._fetch = fetch
        self._size = size_bytes
        self._position = 0
        self._rest = memoryview(b"")
        self.bytes_read = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill a buffer with what comes next; 0 at the end."""
        if not self._rest and self.bytes_read < self._size:
            content = self._fetch(self._position)
            if content is None:
                raise NotFound("a part of the uploaded file is missing; upload it again")
            self._position += 1
            self._rest = memoryview(content)
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._rest))
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.bytes_read += count
        return count


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a batch stands in its file: the rows before it, and the bytes read with it."""

    rows_before: int
    bytes_done: int


async def begin_import(session: AsyncSession, user_id: UUID, import_id: UUID, now: datetime) -> LeadImport:
    """The import, running from now on unless it has ended."""
    row = await get_import(session, user_id, import_id, lock=True)
    if row.status is ImportStatus.QUEUED:
        row.status, row.started_at = ImportStatus.RUNNING, now
    if row.status in OPEN:
        row.updated_at = now
    return row


async def find_device_ids(session: AsyncSession, user_id: UUID) -> frozenset[UUID]:
    """The devices that a row may name."""
    query = select_owned(Device, user_id).where(Device.deleted_at.is_(None)).with_only_columns(Device.id)
    return frozenset((await session.execute(query)).scalars())


async def load_chunk(session: AsyncSession, user_id: UUID, import_id: UUID, position: int) -> bytes | None:
    """A chunk of an import's file."""
    query = select(ImportChunk.content).where(
        ImportChunk.user_id == user_id, ImportChunk.import_id == import_id, ImportChunk.position == position
    )
    return (await session.execute(query)).scalar_one_or_none()


async def record_batch(
    session: AsyncSession, import_id: UUID, rules: MergeRules, batch: Batch, progress: Progress, *, width: int, now: datetime
) -> bool:
    """Merge a batch, or compare it in a dry run, and move the import on; False when the import has been cancelled.

    `width` is that of the file's header. Raises `Conflict` when somebody else has moved the import on meanwhile: a batch counts
    only where it begins where the last one ended, so none is done twice.
    """
    row = await get_import(session, rules.user_id, import_id, lock=True)
    if row.status is not ImportStatus.RUNNING:
        return False
    if row.rows_done != progress.rows_before:
        raise Conflict("this import is being worked on elsewhere")
    if row.is_dry_run:
        verdicts = await compare_rows(session, rules, batch.rows)
    else:
        verdicts = await merge_rows(session, rules, batch.rows, now)
    await _keep_rows(session, row, batch, verdicts)
    if batch.rejected:
        content = write_records([rejected.with_reason(width) for rejected in batch.rejected])
        position = progress.rows_before + 1  # behind the header
        session.add(ImportRejection(import_id=row.id, position=position, user_id=row.user_id, content=content))
    counts = dict(row.counts)
    for verdict in [*verdicts.values(), *(rejected.verdict for rejected in batch.rejected)]:
        counts[verdict.value] = counts.get(verdict.value, 0) + 1
    row.counts = counts
    row.rows_done += len(batch)
    row.bytes_done = progress.bytes_done
    row.updated_at = now
    return True


async def end_import(
    session: AsyncSession, begun: LeadImport, status: ImportStatus, now: datetime, error: str | None
) -> LeadImport:
    """End an import unless it has ended already; returns it as it then is."""
    row = await get_import(session, begun.user_id, begun.id, lock=True)
    if row.status in OPEN:
        row.status, row.error = status, error
        row.finished_at = row.updated_at = now
        if status is ImportStatus.DONE:
            row.bytes_done = row.size_bytes
        note_import(session, row)
    return row


async def _keep_rows(session: AsyncSession, row: LeadImport, batch: Batch, verdicts: dict[int, Verdict]) -> None:
    if row.is_dry_run:
        space = DRY_RUN_ROWS - row.rows_done
    else:
        space = REJECTED_ROWS - sum(row.counts.get(verdict, 0) for verdict in (Verdict.DUPLICATE, Verdict.INVALID))
    if space <= 0:
        return
    kept = [(one.line, one.phone, one.verdict, one.reason) for one in batch.rejected]
    if row.is_dry_run:
        kept += [(one.line, one.phone, verdicts[one.line], "") for one in batch.rows]
    values = [
        {
            "import_id": row.id,
            "user_id": row.user_id,
            "line": line,
            "phone": _storable(phone),
            "verdict": verdict.value,
            "reason": _storable(reason),
        }
        for line, phone, verdict, reason in sorted(kept)[:space]
    ]
    if values:
        await session.execute(insert(ImportRow), values)


def _storable(text: str) -> str:
    """What PostgreSQL takes as text: a rejected row may hold anything."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
