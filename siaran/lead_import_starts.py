"""Starting the workflow of an import, by whoever created it or by the sweep: it has one id, so that it is started once."""

import structlog
from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from siaran.contracts import WORKFLOW_QUEUE, LeadImportInput, import_workflow_id
from siaran.search_attributes import STATUS, USER
from siaran.temporal import NUDGE_TIMEOUT

log = structlog.get_logger()


async def start_import(client: Client, order: LeadImportInput) -> bool:
    """Have an import worked on; False when Temporal is away and the sweep has to make up for it."""
    attributes = [SearchAttributePair(USER, str(order.user_id)), SearchAttributePair(STATUS, "importing")]
    try:
        await client.start_workflow(
            "LeadImportWorkflow",
            order,
            id=import_workflow_id(order.import_id),
            task_queue=WORKFLOW_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=TypedSearchAttributes(attributes),
            static_summary="Import of leads",
            rpc_timeout=NUDGE_TIMEOUT,
        )
    except (RPCError, RuntimeError, OSError) as error:
        log.warning("import_start_failed", lead_import=str(order.import_id), error=type(error).__name__)
        return False
    return True
