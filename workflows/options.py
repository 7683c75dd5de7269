"""Time-outs and retry policies of activities, in one place."""

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy

from siaran.contracts import BULK_QUEUE, IMPORT_QUEUE, WEBHOOK_QUEUE, WORKFLOW_QUEUE

SEND_WINDOW_LIMIT = timedelta(seconds=300)
"""The longest slice of sends in one activity."""

LONGEST_SEND = timedelta(seconds=90)
"""No send takes longer; none begins in the last 90 s of its activity."""

HOPELESS = ["NotFound", "Invalid", "InvalidPhone"]
"""Types of errors that no new try heals: the execution fails instead, for everybody to see."""

DATABASE: dict[str, Any] = {
    "start_to_close_timeout": timedelta(seconds=60),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(milliseconds=500),
        maximum_interval=timedelta(seconds=10),
        non_retryable_error_types=HOPELESS,
    ),
}
"""Short activities on PostgreSQL: tried until it is back."""

STEP: dict[str, Any] = {**DATABASE, "start_to_close_timeout": timedelta(seconds=15)}
"""Short local activities on PostgreSQL: no task of their own, so that a contact's step costs the server one task, not three.

A worker that is killed leaves its workflow task to another after 10 s; a repeat queues nothing twice.
"""

BULK: dict[str, Any] = {
    "task_queue": BULK_QUEUE,
    "start_to_close_timeout": timedelta(hours=6),
    "heartbeat_timeout": timedelta(seconds=60),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), non_retryable_error_types=HOPELESS
    ),
}
"""Activities that work through many rows in batches, each batch with a heartbeat."""

IMPORT: dict[str, Any] = {**BULK, "task_queue": IMPORT_QUEUE, "heartbeat_timeout": timedelta(seconds=20)}
"""As `BULK`, but people wait for an import that a killed worker has left: its batches take well under a second."""

SWEEP: dict[str, Any] = {**BULK, "task_queue": WORKFLOW_QUEUE}
"""As `BULK`, but it waits behind nobody's campaign."""

WEBHOOK: dict[str, Any] = {
    **BULK,
    "task_queue": WEBHOOK_QUEUE,
    "start_to_close_timeout": timedelta(minutes=2),
    "heartbeat_timeout": timedelta(seconds=15),
}
"""One round of deliveries. Of a worker that is killed, another repeats what was under way, under the same ids."""

SEND: dict[str, Any] = {
    "schedule_to_start_timeout": timedelta(seconds=15),
    "start_to_close_timeout": SEND_WINDOW_LIMIT + LONGEST_SEND,
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=1), maximum_attempts=4
    ),
}
"""One message, or a slice of them. No heartbeat: what a dead host left open is settled from the ledger."""
