"""Imports of leads: working through the stored file of one, and what a crash has left undone of any."""

import asyncio
import io
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from sqlalchemy.exc import DataError, IntegrityError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.resources import Resources
from siaran.contracts import LeadImportInput, LeadImportResult
from siaran.errors import Invalid, NotFound
from siaran.lead_import_batches import (
    Progress,
    StoredFile,
    begin_import,
    end_import,
    find_device_ids,
    load_chunk,
    record_batch,
)
from siaran.lead_import_starts import start_import
from siaran.lead_imports import cancel_import, clear_leftovers, discard_chunks, forgotten_imports
from siaran.lead_merge import MergeRules
from siaran.lead_rows import Batch, RowRules, read_batches
from siaran.leads_csv import LeadFile
from siaran.leads_import import BATCH_ROWS
from siaran.models import ImportStatus, LeadImport

CHUNK_WAIT = timedelta(seconds=60)
"""How long the reading thread waits for the next part of the file."""

UNFIT = "a row could not be stored; nothing of its batch was imported"


class ImportActivities:
    """Activities of `LeadImportWorkflow`."""

    def __init__(self, resources: Resources) -> None:
        self._use = resources

    @activity.defn(name="import_leads")
    async def import_leads(self, order: LeadImportInput) -> LeadImportResult:
        """Work through an import to its end and remove its file; goes on behind the last committed batch after any crash.

        Each batch is one transaction that locks the import's row, checks its status, merges leads and stores how far it is.
        """
        async with self._use.sessions.begin() as session:
            row = await begin_import(session, order.user_id, order.import_id, self._use.clock())
            device_ids = await find_device_ids(session, order.user_id)
        if row.status is ImportStatus.RUNNING:
            status, error = ImportStatus.DONE, None
            try:
                await self._work(row, device_ids)
            except (Invalid, NotFound) as refusal:
                status, error = ImportStatus.FAILED, refusal.detail
            except (DataError, IntegrityError):
                status, error = ImportStatus.FAILED, UNFIT
            async with self._use.sessions.begin() as session:
                row = await end_import(session, row, status, self._use.clock(), error)
        await self._discard(order)
        return LeadImportResult(row.status.value, row.rows_done)

    @activity.defn(name="cancel_import")
    async def cancel_import(self, order: LeadImportInput) -> LeadImportResult:
        """End an import whose workflow has been cancelled, and remove its file."""
        async with self._use.sessions.begin() as session:
            row = await begin_import(session, order.user_id, order.import_id, self._use.clock())
            if row.status is ImportStatus.RUNNING:
                row = await cancel_import(session, order.user_id, order.import_id, self._use.clock())
        await self._discard(order)
        return LeadImportResult(row.status.value, row.rows_done)

    async def _work(self, row: LeadImport, device_ids: frozenset[UUID]) -> None:
        """Read the file in a thread, a batch ahead of the one that is being merged."""
        stored = StoredFile(self._fetcher(row), row.size_bytes)
        file = await asyncio.to_thread(_open_file, stored, row)
        batches = read_batches(file, RowRules(row.country, device_ids), BATCH_ROWS, skip=row.rows_done)
        rules = MergeRules(row.user_id, row.device_id, frozenset(file.header.positions))
        rows_done = row.rows_done
        upcoming = asyncio.create_task(asyncio.to_thread(_read_batch, batches, stored))
        try:
            while (read := await upcoming) is not None:
                upcoming = asyncio.create_task(asyncio.to_thread(_read_batch, batches, stored))
                batch, bytes_done = read
                if batch and not await self._record(row, rules, batch, Progress(rows_done, bytes_done), len(file.header.cells)):
                    return
                rows_done += len(batch)
                activity.heartbeat(rows_done)
                if activity.is_worker_shutdown():
                    raise ApplicationError("this worker stops; another goes on", next_retry_delay=timedelta(milliseconds=100))
        finally:
            await asyncio.wait([upcoming])  # the thread asks this event loop for the next part of the file
            if not upcoming.cancelled():
                upcoming.exception()  # seen: what ended this run is on its way already

    async def _record(self, row: LeadImport, rules: MergeRules, batch: Batch, progress: Progress, width: int) -> bool:
        async with self._use.sessions.begin() as session:
            return await record_batch(session, row.id, rules, batch, progress, width=width, now=self._use.clock())

    def _fetcher(self, row: LeadImport) -> "_Fetcher":
        return _Fetcher(self._use, row, asyncio.get_running_loop())

    async def _discard(self, order: LeadImportInput) -> None:
        is_left = True
        while is_left:
            async with self._use.sessions.begin() as session:
                is_left = await discard_chunks(session, order.user_id, order.import_id)
            activity.heartbeat()


class _Fetcher:
    """Fetches parts of a file for the thread that reads it, on the event loop that has the database."""

    def __init__(self, use: Resources, row: LeadImport, loop: asyncio.AbstractEventLoop) -> None:
        self._use = use
        self._user_id, self._import_id = row.user_id, row.id
        self._loop = loop

    def __call__(self, position: int) -> bytes | None:
        fetched = asyncio.run_coroutine_threadsafe(self._load(position), self._loop)
        return fetched.result(CHUNK_WAIT.total_seconds())

    async def _load(self, position: int) -> bytes | None:
        async with self._use.sessions.begin() as session:
            return await load_chunk(session, self._user_id, self._import_id, position)


def _open_file(stored: StoredFile, row: LeadImport) -> LeadFile:
    return LeadFile(io.BufferedReader(stored), row.columns, row.delimiter)


def _read_batch(batches: Iterator[Batch], stored: StoredFile) -> tuple[Batch, int] | None:
    """The next batch, and how much of the file has been read with it; None at the end."""
    batch = next(batches, None)
    return None if batch is None else (batch, stored.bytes_read)


async def sweep_imports(use: Resources) -> int:
    """Start imports that nobody works on, and clear some of what ended ones have left; returns how many were started."""
    async with use.sessions.begin() as session:
        await clear_leftovers(session, use.clock())
        forgotten = await forgotten_imports(session, use.clock())
    for row in forgotten:
        await start_import(use.client, LeadImportInput(row.id, row.user_id))
    return len(forgotten)
