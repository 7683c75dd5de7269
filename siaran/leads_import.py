"""Importing leads from a CSV file: batch by batch, each in a transaction of its own, or only saying what would happen."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import BinaryIO
from uuid import UUID

from siaran.db import SessionMaker
from siaran.devices import get_device
from siaran.lead_merge import MergeRules, compare_rows, merge_rows
from siaran.lead_rows import REASON_COLUMNS, Batch, RowRules, Verdict, read_batches
from siaran.leads_csv import LeadFile, write_records
from siaran.models import Device
from siaran.tenancy import select_owned

BATCH_ROWS = 5_000
MOST_DETAILS = 1_000
"""Rows of which a report says more than their number: so many imported ones and so many rejected ones."""


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """Whose leads they become, the device of new leads whose row names none, and the country of local phones."""

    user_id: UUID
    device_id: UUID | None
    country: str


@dataclass(frozen=True, slots=True)
class RowDetail:
    """What became of one row; `line` is where it begins in the file."""

    line: int
    phone: str
    verdict: Verdict
    reason: str = ""


@dataclass(slots=True)
class ImportReport:
    """What became of all rows, or would. The counts are of all of them; the details of the first ones."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    imported: list[RowDetail] = field(default_factory=list)
    rejected: list[RowDetail] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return self.counts.total()

    @property
    def failed(self) -> int:
        """How many rows were not imported: duplicates and invalid ones."""
        return self.counts[Verdict.DUPLICATE] + self.counts[Verdict.INVALID]

    @property
    def success(self) -> int:
        """How many rows stand in the database as the file has them: new, updated and unchanged ones."""
        return self.rows - self.failed

    @property
    def details(self) -> list[RowDetail]:
        """The details in the order of the file."""
        return sorted((*self.imported, *self.rejected), key=lambda row: row.line)

    def add(self, batch: Batch, verdicts: dict[int, Verdict]) -> None:
        """Count a batch in; `verdicts` are those of its rows that can be imported, by line."""
        self.counts.update(verdicts.values())
        self.counts.update(row.verdict for row in batch.rejected)
        space = MOST_DETAILS - len(self.imported)
        self.imported += [RowDetail(row.line, row.phone, verdicts[row.line]) for row in batch.rows[:space]]
        space = MOST_DETAILS - len(self.rejected)
        self.rejected += [RowDetail(row.line, row.phone, row.verdict, row.reason) for row in batch.rejected[:space]]


class LeadImport:
    """A file that is about to be imported, read once from its beginning to its end."""

    def __init__(self, file: LeadFile, target: ImportTarget, rules: RowRules) -> None:
        self._header = file.header
        self._batches = read_batches(file, rules, BATCH_ROWS)
        self._rules = MergeRules(target.user_id, target.device_id, frozenset(file.header.positions))

    @classmethod
    async def open(cls, sessions: SessionMaker, file: BinaryIO, target: ImportTarget) -> "LeadImport":
        """Read the header; raises `Invalid` for a file that is none of leads, `NotFound` for someone else's device."""
        async with sessions.begin() as session:
            if target.device_id is not None:
                await get_device(session, target.user_id, target.device_id)
            query = select_owned(Device, target.user_id).where(Device.deleted_at.is_(None)).with_only_columns(Device.id)
            device_ids = frozenset((await session.execute(query)).scalars())
        lead_file = await asyncio.to_thread(LeadFile, file)
        return cls(lead_file, target, RowRules(target.country, device_ids))

    async def batches(self) -> AsyncIterator[Batch]:
        """The rows, parsed in a thread so that the event loop goes on meanwhile."""
        while (batch := await asyncio.to_thread(next, self._batches, None)) is not None:
            yield batch

    async def run(
        self, sessions: SessionMaker, *, now: datetime, dry_run: bool = False, on_batch: Callable[[int], None] | None = None
    ) -> ImportReport:
        """Import the file, or only say what would happen; `on_batch` is told after each batch how many rows are done.

        If it breaks off, whole batches are in the database and importing the file again makes up for the rest.
        """
        report = ImportReport()
        async for batch in self.batches():
            async with sessions.begin() as session:
                if dry_run:
                    verdicts = await compare_rows(session, self._rules, batch.rows)
                else:
                    verdicts = await merge_rows(session, self._rules, batch.rows, now)
            report.add(batch, verdicts)
            if on_batch is not None:
                on_batch(report.rows)
        return report

    async def rejected_csv(self) -> AsyncIterator[bytes]:
        """The rejected rows as CSV: their cells, then line, verdict and reason. Corrected, it can be imported again."""
        width = len(self._header.cells)
        yield write_records([[*self._header.cells, *REASON_COLUMNS]])
        async for batch in self.batches():
            if batch.rejected:
                yield write_records([row.with_reason(width) for row in batch.rejected])


async def import_leads(
    sessions: SessionMaker,
    file: BinaryIO,
    target: ImportTarget,
    *,
    now: datetime,
    dry_run: bool = False,
    on_batch: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import a CSV file of leads in one pass with flat memory; raises as `LeadImport.open`."""
    opened = await LeadImport.open(sessions, file, target)
    return await opened.run(sessions, now=now, dry_run=dry_run, on_batch=on_batch)
