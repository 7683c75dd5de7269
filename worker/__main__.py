"""The worker: runs all workflows and all database activities; any number may run side by side."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
import uvloop
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.audience import AudienceActivities
from activities.campaigns import CampaignActivities
from activities.enrollments import EnrollmentActivities
from activities.imports import ImportActivities
from activities.lanes import LaneActivities
from activities.resources import Resources
from activities.sequences import SequenceActivities
from activities.sweeps import SweepActivities
from activities.webhooks import WebhookActivities
from siaran.cache import open_redis
from siaran.clock import system_clock
from siaran.contracts import BULK_QUEUE, IMPORT_QUEUE, STEP_QUEUE, WEBHOOK_QUEUE, WORKFLOW_QUEUE
from siaran.db import open_database
from siaran.logging import configure_logging
from siaran.metrics import serve_metrics
from siaran.settings import Settings, get_settings
from siaran.temporal import connect
from worker.schedule import register_search_attributes, schedule_sweep
from workflows.campaign import CampaignWorkflow
from workflows.device import DeviceWorkflow
from workflows.enrollment import EnrollmentWorkflow
from workflows.imports import LeadImportWorkflow
from workflows.sequence import SequenceWorkflow
from workflows.sweep import SweepWorkflow
from workflows.webhook import WebhookWorkflow

log = structlog.get_logger()

WORKFLOWS = [CampaignWorkflow, DeviceWorkflow, LeadImportWorkflow, SequenceWorkflow, SweepWorkflow, WebhookWorkflow]
STEP_WORKFLOWS = [EnrollmentWorkflow]
WORKFLOW_RUNNER = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("siaran", "workflows")
)
ACTIVITIES_AT_ONCE = 40
BULK_AT_ONCE = 8
IMPORTS_AT_ONCE = 2
"""Each has a thread that parses, and 25 MB of phones for a million rows."""
WEBHOOKS_AT_ONCE = 200
"""Rounds of deliveries, each for one address: they wait for other people's servers, most of the time."""
STEPS_AT_ONCE = 300
"""They wait for the next group commit, most of the time."""
CACHED_ENROLLMENTS = 1_000
"""Contacts sleep for a day between two events; those that have fallen out of the cache have a short history to replay, which
doubles what a step costs the worker. Without any cache, a local activity that takes long would be begun over and over."""
CACHED_WORKFLOWS = 12_000
"""Above the number of open lanes: a lane that falls out of the cache is replayed at its next event."""


def make_workers(resources: Resources, enrollments: EnrollmentActivities, webhooks: WebhookActivities) -> list[Worker]:
    """The workers of a process: for workflows and short activities, contacts of sequences, bulk work, imports, webhooks."""
    lanes, campaigns = LaneActivities(resources), CampaignActivities(resources)
    imports = ImportActivities(resources)
    bulk: list[Callable[..., Any]] = [
        lanes.fail_over,
        campaigns.cancel_pending,
        campaigns.rebalance,
        campaigns.retry_failed,
        AudienceActivities(resources).expand_audience,
        SequenceActivities(resources).enroll,
    ]
    short: list[Callable[..., Any]] = [
        lanes.plan_lane,
        campaigns.plan_campaign,
        imports.cancel_import,
        SweepActivities(resources).sweep,
    ]
    drain = timedelta(seconds=20)
    return [
        Worker(
            resources.client,
            task_queue=WORKFLOW_QUEUE,
            workflows=WORKFLOWS,
            # Bulk work too: what an older release queued here has to be done.
            activities=[*short, *bulk],
            workflow_runner=WORKFLOW_RUNNER,
            max_cached_workflows=CACHED_WORKFLOWS,
            max_concurrent_activities=ACTIVITIES_AT_ONCE,
            graceful_shutdown_timeout=drain,
        ),
        Worker(
            resources.client,
            task_queue=STEP_QUEUE,
            workflows=STEP_WORKFLOWS,
            activities=[enrollments.take_step, enrollments.retry_step],
            # A sandbox for each costs more than the step itself; the tests replay these workflows in one.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=CACHED_ENROLLMENTS,
            max_concurrent_local_activities=STEPS_AT_ONCE,
            max_concurrent_workflow_tasks=STEPS_AT_ONCE,
            graceful_shutdown_timeout=drain,
        ),
        Worker(
            resources.client,
            task_queue=BULK_QUEUE,
            activities=bulk,
            max_concurrent_activities=BULK_AT_ONCE,
            graceful_shutdown_timeout=drain,
        ),
        Worker(
            resources.client,
            task_queue=IMPORT_QUEUE,
            activities=[imports.import_leads],
            max_concurrent_activities=IMPORTS_AT_ONCE,
            graceful_shutdown_timeout=drain,
        ),
        Worker(
            resources.client,
            task_queue=WEBHOOK_QUEUE,
            activities=[webhooks.deliver_webhooks],
            max_concurrent_activities=WEBHOOKS_AT_ONCE,
            graceful_shutdown_timeout=drain,
        ),
    ]


@asynccontextmanager
async def work(resources: Resources) -> AsyncIterator[None]:
    """Poll all queues of a worker process until the block ends."""
    async with AsyncExitStack() as stack:
        enrollments = EnrollmentActivities(resources)
        stack.push_async_callback(enrollments.close)
        webhooks = WebhookActivities(resources)
        stack.push_async_callback(webhooks.close)
        for worker in make_workers(resources, enrollments, webhooks):
            await stack.enter_async_context(worker)
        yield


async def run_worker(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; Temporal may come later than we."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with (
        open_database(settings, pool_size=ACTIVITIES_AT_ONCE // 2) as sessions,
        open_redis(settings) as redis,
    ):
        client = await connect_patiently(settings, stop)
        if client is None:
            return
        resources = Resources(settings, sessions, redis, client, system_clock)
        async with work(resources):
            log.info("worker_started")
            await stop.wait()
    log.info("worker_stopped")


async def connect_patiently(settings: Settings, stop: asyncio.Event) -> Client | None:
    """Connect and prepare the namespace, however long the server takes; None when told to stop before."""
    while not stop.is_set():
        try:
            client = await connect(settings)
            await register_search_attributes(client)
            await schedule_sweep(client)
        except (RPCError, RuntimeError) as error:
            log.warning("waiting_for_temporal", error=type(error).__name__)
            await asyncio.sleep(1)
        else:
            return client
    return None


def main() -> None:
    """Run workflows and database activities."""
    settings = get_settings()
    configure_logging(debug=settings.debug)
    serve_metrics(settings, "worker")
    uvloop.run(run_worker(settings))


if __name__ == "__main__":
    main()
