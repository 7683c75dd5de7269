"""Signals that bring the workflows of sequences and of their contacts back to look at their rows.

Call them after the rows are committed. None of them raises when Temporal is away: what could not be told is found by the sweep.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

import structlog
from sqlalchemy import text
from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RPCError

from siaran.contracts import (
    STEP_QUEUE,
    WORKFLOW_QUEUE,
    EnrollmentInput,
    SequenceInput,
    StepRetry,
    enrollment_workflow_id,
    sequence_workflow_id,
)
from siaran.db import SessionMaker
from siaran.search_attributes import SEQUENCE, STATUS, USER
from siaran.temporal import NUDGE_TIMEOUT

log = structlog.get_logger()

AT_ONCE = 32
"""Executions that one caller starts or signals side by side: more of them starve dispatch on the embedded server."""

UNREACHED = (RPCError, RuntimeError, OSError)
"""What a call raises while Temporal is away."""

_ACTIVE = text("SELECT id FROM sequences WHERE user_id = :user AND status = 'active' AND deleted_at IS NULL ORDER BY id")


async def nudge_sequence(client: Client, sequence: SequenceInput) -> bool:
    """Have a sequence's workflow look at its row, and at whom to enroll; False when Temporal is away."""
    try:
        await client.start_workflow(
            "SequenceWorkflow",
            sequence,
            id=sequence_workflow_id(sequence.sequence_id),
            task_queue=WORKFLOW_QUEUE,
            start_signal="changed",
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=_attributes(sequence.user_id, sequence.sequence_id, "starting"),
            static_summary=f"Sequence {sequence.sequence_id}",
            rpc_timeout=NUDGE_TIMEOUT,
        )
    except UNREACHED as error:
        log.warning("sequence_nudge_failed", sequence=str(sequence.sequence_id), error=type(error).__name__)
        return False
    return True


async def nudge_sequences(sessions: SessionMaker, client: Client, user_id: UUID) -> int:
    """Have all active sequences of a user look for leads to enroll; returns how many were reached."""
    async with sessions() as session:
        ids = (await session.scalars(_ACTIVE, {"user": user_id})).all()
    return sum([await nudge_sequence(client, SequenceInput(sequence_id, user_id)) for sequence_id in ids])


async def start_enrollments(client: Client, enrollments: Iterable[EnrollmentInput]) -> list[bool]:
    """Start contacts' workflows that are not open already, at a bounded rate; says for each whether it was reached."""
    return await _call_all(client, enrollments, None)


async def signal_enrollments(client: Client, enrollments: Iterable[EnrollmentInput]) -> int:
    """Have contacts' workflows look at their rows, at a bounded rate; returns how many were reached.

    A workflow that has ended begins a new run, so that a contact who starts over, or is resumed, moves on.
    """
    return sum(await tell_enrollments(client, enrollments))


async def tell_enrollments(client: Client, enrollments: Iterable[EnrollmentInput]) -> list[bool]:
    """As `signal_enrollments`, but says for each whether it was reached."""
    return await _call_all(client, enrollments, "changed")


async def request_step_retry(client: Client, enrollment: EnrollmentInput, retry: StepRetry) -> bool:
    """Have a contact's workflow send a failed step once more, also after the contact's walk has ended."""
    return await _call(client, enrollment, "retry_failed", retry)


async def _call_all(client: Client, enrollments: Iterable[EnrollmentInput], signal: str | None) -> list[bool]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def call(enrollment: EnrollmentInput) -> bool:
        async with gate:
            return await _call(client, enrollment, signal)

    return await asyncio.gather(*(call(enrollment) for enrollment in enrollments))


async def _call(client: Client, enrollment: EnrollmentInput, signal: str | None, *args: object) -> bool:
    try:
        await client.start_workflow(
            "EnrollmentWorkflow",
            replace(enrollment, lists_days=False),
            id=enrollment_workflow_id(enrollment.sequence_id, enrollment.lead_id),
            task_queue=STEP_QUEUE,
            start_signal=signal,
            start_signal_args=args,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=_attributes(enrollment.user_id, enrollment.sequence_id, "under way"),
            static_summary=f"Contact {enrollment.enrollment_id} in sequence {enrollment.sequence_id}",
            rpc_timeout=NUDGE_TIMEOUT * 3,
        )
    except UNREACHED as error:
        log.warning("enrollment_call_failed", enrollment=enrollment.enrollment_id, error=type(error).__name__)
        return False
    return True


def _attributes(user_id: UUID, sequence_id: UUID, status: str) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(USER, str(user_id)),
            SearchAttributePair(SEQUENCE, str(sequence_id)),
            SearchAttributePair(STATUS, status),
        ]
    )
