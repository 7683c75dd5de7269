"""What a worker makes sure of before it polls: search attributes, and the schedule of the sweep."""

from datetime import timedelta

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)
from temporalio.service import RPCError, RPCStatusCode

from siaran.contracts import WORKFLOW_QUEUE
from siaran.search_attributes import CAMPAIGN, DEVICE, SEQUENCE, STATUS, USER

log = structlog.get_logger()

SWEEP_INTERVAL = timedelta(seconds=30)

_KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
_INT = IndexedValueType.INDEXED_VALUE_TYPE_INT


async def register_search_attributes(client: Client) -> None:
    """Add Siaran's search attributes to the namespace; those that are there already stay."""
    request = AddSearchAttributesRequest(
        namespace=client.namespace,
        search_attributes={
            USER.name: _KEYWORD,
            DEVICE.name: _KEYWORD,
            SEQUENCE.name: _KEYWORD,
            STATUS.name: _KEYWORD,
            CAMPAIGN.name: _INT,
        },
    )
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status not in {RPCStatusCode.ALREADY_EXISTS, RPCStatusCode.INVALID_ARGUMENT}:
            raise


async def schedule_sweep(client: Client) -> None:
    """Have the sweep run every 30 s, never two at once; a schedule that is there already stays."""
    schedule = Schedule(
        action=ScheduleActionStartWorkflow("SweepWorkflow", id="sweep", task_queue=WORKFLOW_QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=SWEEP_INTERVAL)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=60)),
    )
    try:
        await client.create_schedule("sweep", schedule)
    except ScheduleAlreadyRunningError:
        log.debug("sweep_already_scheduled")
