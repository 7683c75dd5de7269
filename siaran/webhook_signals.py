"""Signals that bring the workflows of webhooks to look at their outbox: after the commit, in the background, never too many."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID
from weakref import WeakKeyDictionary

import structlog
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from siaran.contracts import WORKFLOW_QUEUE, WebhookInput, WebhookReach, webhook_workflow_id
from siaran.search_attributes import STATUS, USER
from siaran.temporal import NUDGE_TIMEOUT

log = structlog.get_logger()

QUIET_SECONDS = 1.0
"""An address is signalled at most once in this time by a process: a round of deliveries takes whatever has come meanwhile."""

AT_ONCE = 16
"""Signals of a process under way side by side."""


async def signal_webhook(client: Client, order: WebhookInput, signal: str = "news") -> bool:
    """Have an address's outbox looked at; `changed` says that it is another address now, or that somebody wants a try at once.

    False when Temporal is away, and the sweep has to make up for it.
    """
    attributes = [SearchAttributePair(USER, str(order.user_id)), SearchAttributePair(STATUS, "delivering")]
    try:
        await client.start_workflow(
            "WebhookWorkflow",
            replace(order, reach=WebhookReach()),
            id=webhook_workflow_id(order.target),
            task_queue=WORKFLOW_QUEUE,
            start_signal=signal,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=TypedSearchAttributes(attributes),
            static_summary="Deliveries to a webhook",
            rpc_timeout=NUDGE_TIMEOUT,
        )
    except (RPCError, RuntimeError, OSError) as error:
        log.warning("webhook_signal_failed", target=order.target, error=type(error).__name__)
        return False
    return True


class _Nudges:
    """The signals of one process: the first for an address goes out at once, those soon after it together as one more."""

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._open: dict[tuple[UUID, str], asyncio.Task[None]] = {}
        self._again: set[tuple[UUID, str]] = set()

    def add(self, client: Client, order: WebhookInput) -> None:
        key = (order.user_id, order.target)
        if key in self._open:
            self._again.add(key)
            return
        self._open[key] = asyncio.create_task(self._send(client, order), name="webhook-nudge")

    async def _send(self, client: Client, order: WebhookInput) -> None:
        key = (order.user_id, order.target)
        try:
            while True:
                self._again.discard(key)
                async with self._gate:
                    await signal_webhook(client, order)
                await asyncio.sleep(QUIET_SECONDS)
                if key not in self._again:
                    return
        finally:
            del self._open[key]


_NUDGES: WeakKeyDictionary[Client, _Nudges] = WeakKeyDictionary()


def nudge_webhooks(client: Client, told: Iterable[WebhookInput]) -> None:
    """Have outboxes looked at that something was committed to; does not wait, and never raises.

    What it cannot tell, because Temporal is away or the process is killed, is found by the sweep.
    """
    orders = list(told)
    if not orders:
        return
    nudges = _NUDGES.setdefault(client, _Nudges())
    for order in orders:
        nudges.add(client, order)
