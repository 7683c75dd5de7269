"""Imports with the real activities: a worker that stops hands over, and what an operator cancels stays cancelled."""

import io
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from activities import imports
from activities.resources import Resources
from siaran.clock import system_clock
from siaran.contracts import LeadImportInput, import_workflow_id
from siaran.db import SessionMaker
from siaran.lead_import_starts import start_import
from siaran.lead_imports import ImportOrder, add_import
from siaran.models import ImportChunk, ImportStatus, Lead, LeadImport
from siaran.settings import Settings
from tests.factories import add_user
from tests.lead_files import ManyLeads
from tests.waiting import eventually
from worker.__main__ import work

FILE = ManyLeads(20_000)


class Upload:
    """An import of `FILE` whose workflow has been started."""

    def __init__(self, resources: Resources) -> None:
        self.use = resources
        self.order: LeadImportInput

    async def begin(self) -> None:
        """Store the file and start the workflow."""
        async with self.use.sessions.begin() as session:
            user = await add_user(session)
            order = ImportOrder(country="MY", file_name="leads.csv")
            row = await add_import(session, user.id, order, io.BytesIO(FILE.content.encode()), self.use.clock())
        self.order = LeadImportInput(row.id, user.id)
        assert await start_import(self.use.client, self.order)

    @property
    def workflow(self) -> WorkflowHandle[Any, Any]:
        """Its workflow."""
        return self.use.client.get_workflow_handle(import_workflow_id(self.order.import_id))

    async def row(self) -> LeadImport:
        """The import as it stands now."""
        async with self.use.sessions() as session:
            return await session.get_one(LeadImport, self.order.import_id)

    async def is_under_way(self) -> bool:
        """Whether some batches are done, and others are not."""
        row = await self.row()
        assert row.status is not ImportStatus.DONE, "over before the test looked"
        return row.rows_done > 500

    async def count(self, table: type[Any]) -> int:
        """How many rows a table has."""
        async with self.use.sessions() as session:
            return (await session.execute(select(func.count()).select_from(table))).scalar_one()


@pytest.fixture
async def upload(
    settings: Settings,
    sessions: SessionMaker,
    redis: Redis,
    temporal_client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> Upload:
    monkeypatch.setattr(imports, "BATCH_ROWS", 250)
    upload = Upload(Resources(settings, sessions, redis, temporal_client, system_clock))
    await upload.begin()
    return upload


async def test_an_import_goes_on_where_the_worker_that_stopped_has_left_it(upload: Upload) -> None:
    async with work(upload.use):
        await eventually(upload.is_under_way)
    left = (await upload.row()).rows_done
    assert left < FILE.rows

    async with work(upload.use):
        assert await upload.workflow.result() == f"done: {FILE.rows} rows"

    assert (await upload.row()).counts == FILE.counts
    assert await upload.count(Lead) == len(FILE.phones)
    assert await upload.count(ImportChunk) == 0


async def test_an_import_cancelled_by_an_operator_is_not_started_again(upload: Upload) -> None:
    async with work(upload.use):
        await eventually(upload.is_under_way)
        await upload.workflow.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await upload.workflow.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert (await upload.row()).status is ImportStatus.CANCELLED
    assert await upload.count(ImportChunk) == 0


async def test_starting_an_import_again_changes_nothing(upload: Upload) -> None:
    assert await start_import(upload.use.client, upload.order)
    async with work(upload.use):
        assert await upload.workflow.result() == f"done: {FILE.rows} rows"
        assert await start_import(upload.use.client, upload.order)
        assert await upload.workflow.result() == f"done: {FILE.rows} rows"
    assert (await upload.row()).counts == FILE.counts
