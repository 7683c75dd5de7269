"""A sequence's workflow: it goes on while there is more, waits for changes, and ends when the sequence is gone."""

import asyncio
from uuid import uuid4

from temporalio.client import Client

from siaran.contracts import EnrollingResult, SequenceInput, sequence_workflow_id
from siaran.search_attributes import SEQUENCE, STATUS, USER
from siaran.sequence_signals import nudge_sequence
from tests.workflows.conftest import workflow_worker
from tests.workflows.walk_stand_ins import EnrollStandIns

SEQUENCE_1 = SequenceInput(uuid4(), uuid4())
MORE = EnrollingResult(enrolled=9, started=5, signalled=0, status="active", contacts=9, has_more=True)
IDLE = EnrollingResult(enrolled=0, started=4, signalled=0, status="active", contacts=9)
GONE = EnrollingResult(enrolled=0, started=0, signalled=9, status="deleted", contacts=9, is_over=True)


async def test_it_goes_on_while_there_is_more_and_then_waits_for_a_change(temporal_client: Client) -> None:
    stand_ins = EnrollStandIns(MORE, MORE, IDLE, IDLE, GONE)
    handle = temporal_client.get_workflow_handle(sequence_workflow_id(SEQUENCE_1.sequence_id))
    async with workflow_worker(temporal_client, stand_ins.activities):
        assert await nudge_sequence(temporal_client, SEQUENCE_1)
        await stand_ins.results.until(3)
        await asyncio.sleep(0.3)
        assert len(stand_ins.results.calls) == 3
        attributes = (await handle.describe()).typed_search_attributes
        assert (attributes[USER], attributes[SEQUENCE]) == (str(SEQUENCE_1.user_id), str(SEQUENCE_1.sequence_id))
        assert attributes[STATUS] == "active: 9 contacts"

        await nudge_sequence(temporal_client, SEQUENCE_1)
        await stand_ins.results.until(4)
        await nudge_sequence(temporal_client, SEQUENCE_1)
        async with asyncio.timeout(20):
            assert await handle.result() == "deleted: 9 contacts"

    assert stand_ins.results.calls == [SEQUENCE_1] * 5


async def test_a_change_while_it_enrolls_is_looked_at_afterwards(temporal_client: Client) -> None:
    under_way = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> EnrollingResult:
        under_way.set()
        await go_on.wait()
        return GONE

    stand_ins = EnrollStandIns(slow, GONE)
    async with workflow_worker(temporal_client, stand_ins.activities):
        await nudge_sequence(temporal_client, SEQUENCE_1)
        await under_way.wait()
        await nudge_sequence(temporal_client, SEQUENCE_1)
        go_on.set()
        async with asyncio.timeout(20):
            await temporal_client.get_workflow_handle(sequence_workflow_id(SEQUENCE_1.sequence_id)).result()

    assert len(stand_ins.results.calls) == 2
