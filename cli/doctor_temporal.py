"""What `siaran doctor` asks Temporal: its answer, search attributes, the sweep's schedule, and whether a worker polls."""

from time import perf_counter

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from cli.doctor_checks import Check, failed, ok, skipped, warning
from siaran.contracts import WORKFLOW_QUEUE
from siaran.namespaces import SEARCH_ATTRIBUTES
from siaran.settings import Settings
from siaran.temporal import connect

SWEEP = "sweep"


async def check_temporal(settings: Settings) -> list[Check]:
    """Everything about Temporal; one that is away is asked nothing further."""
    if settings.temporal_address is None:
        return [skipped("Temporal", "does not run", "start everything with `siaran up`, or set TEMPORAL_ADDRESS")]
    started = perf_counter()
    try:
        client = await connect(settings)
        checks = [ok("Temporal", f"answers in {(perf_counter() - started) * 1000:.1f} ms, connecting included")]
        return [*checks, await _check_attributes(client), await _check_schedule(client), await _check_worker(client)]
    except (RPCError, RuntimeError, OSError) as error:
        hint = f"is it running at {settings.temporal_address}, with a namespace {settings.temporal_namespace!r}?"
        return [failed("Temporal", f"does not answer: {_why(error)}", hint)]


async def _check_attributes(client: Client) -> Check:
    try:
        request = ListSearchAttributesRequest(namespace=client.namespace)
        found = await client.operator_service.list_search_attributes(request)
    except RPCError as error:
        return warning("search attributes", f"cannot be listed: {_why(error)}", "on Temporal Cloud, see its console")
    missing = sorted(key.name for key in SEARCH_ATTRIBUTES if key.name not in found.custom_attributes)
    if missing:
        hint = "run `python -m siaran.namespaces`; a worker adds them too when it starts"
        return failed("search attributes", f"{', '.join(missing)} missing", hint)
    return ok("search attributes", f"all {len(SEARCH_ATTRIBUTES)} are there")


async def _check_schedule(client: Client) -> Check:
    try:
        found = await client.get_schedule_handle(SWEEP).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return failed("sweep", "is not scheduled: what a crash left undone stays undone", "start a worker, which schedules it")
    if found.schedule.state.paused:
        return warning("sweep", "is paused: what a crash left undone stays undone", "unpause the schedule in the Temporal UI")
    return ok("sweep", f"is scheduled, next at {found.info.next_action_times[0]:%H:%M:%S} UTC")


async def _check_worker(client: Client) -> Check:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=WORKFLOW_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    answer = await client.workflow_service.describe_task_queue(request)
    workers = {poller.identity for poller in answer.pollers}
    if not workers:
        return failed("worker", "none polls: nothing is sent", "start one with `siaran worker`; see worker.log")
    return ok("worker", f"{len(workers)} polls" if len(workers) == 1 else f"{len(workers)} poll")


def _why(error: BaseException) -> str:
    return error.status.name if isinstance(error, RPCError) else type(error).__name__
