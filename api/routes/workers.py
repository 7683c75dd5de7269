"""Workers, as the original calls the lanes of devices: what they do, and stopping and resuming them."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, success
from api.paging import PagingDep
from api.worker_views import DeviceWorker, WorkerFilter, WorkerOverview, WorkerSummary, view_device_worker, view_worker
from siaran import worker_status
from siaran.contracts import LaneInput
from siaran.devices import get_device
from siaran.errors import Invalid
from siaran.lanes import wake_lanes
from siaran.models import DeviceStatus
from siaran.temporal import restart_lanes
from siaran.worker_status import Worker, WorkerStatus

Id = TypeVar("Id", int, UUID)

router = APIRouter(tags=["workers"])


class Stopped(BaseModel):
    """How many lanes were stopped."""

    stopped_count: int


class Resumed(BaseModel):
    """How many lanes were resumed."""

    resumed_count: int


@router.get("/api/workers/status")
async def read_workers(
    *,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    chosen: Annotated[WorkerFilter, Query(alias="filter", description="Which lanes to show.")] = WorkerFilter.ALL,
    identifier: Annotated[
        str | None, Query(alias="id", description="The device, campaign or sequence, for a filter by one of them.")
    ] = None,
) -> Envelope[WorkerOverview]:
    """One's own lanes, oldest device first, and their totals."""
    after = paging.after(tuple[datetime, UUID])
    async with context.sessions.begin() as session:
        named = await _named_devices(session, user.id, chosen, identifier)
        everyone = await worker_status.list_workers(session, user.id, context.clock())
    found = [worker for worker in everyone if _passes(worker, chosen, named)]
    rest = [worker for worker in found if after is None or _position(worker) > after]
    page, next_cursor = paging.cut(rest, _position)
    views = [view_worker(worker) for worker in page]
    results = WorkerOverview(
        total_workers=len(everyone),
        user_devices=len(everyone),
        connected_devices=sum(worker.device.status == DeviceStatus.ONLINE for worker in everyone),
        device_workers=views,
        filter=chosen,
        summary=WorkerSummary.of(worker_status.total(found)),
        workers=views,
        next_cursor=next_cursor,
    )
    return success(results, "Workers")


@router.get("/api/workers/device/{device_id}")
async def read_worker(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeviceWorker]:
    """The lane of one device."""
    return success(await _read_worker(context, user.id, device_id), "Worker")


@router.post("/api/workers/stop-all")
async def stop_all(user: UserDep, context: ContextDep) -> Envelope[Stopped]:
    """Stop all of one's own lanes before their next message, until they are resumed; nothing is lost."""
    async with context.sessions.begin() as session:
        stopped = await worker_status.stop_lanes(session, user.id, context.clock())
    return success(Stopped(stopped_count=len(stopped)), f"{len(stopped)} workers stopped")


@router.post("/api/workers/resume-failed")
async def resume_failed(user: UserDep, context: ContextDep) -> Envelope[Resumed]:
    """Resume those of one's own lanes that are stopped or in error."""
    resumed = await _resume(context, user.id)
    return success(Resumed(resumed_count=resumed), f"{resumed} workers resumed")


@router.post("/api/workers/device/{device_id}/stop")
async def stop_worker(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeviceWorker]:
    """Stop the lane of one device before its next message, until it is resumed."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
        await worker_status.stop_lanes(session, user.id, context.clock(), device_id)
    return success(await _read_worker(context, user.id, device_id), "Worker stopped")


@router.post("/api/workers/device/{device_id}/resume")
async def resume_worker(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeviceWorker]:
    """Resume the lane of one device if it is stopped or in error."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
    await _resume(context, user.id, device_id)
    return success(await _read_worker(context, user.id, device_id), "Worker resumed")


@router.get("/api/broadcast/stats")
async def read_broadcast_stats(user: UserDep, context: ContextDep) -> Envelope[WorkerSummary]:
    """Totals over all of one's own lanes."""
    async with context.sessions.begin() as session:
        workers = await worker_status.list_workers(session, user.id, context.clock())
    return success(WorkerSummary.of(worker_status.total(workers)), "Totals")


async def _read_worker(context: Context, user_id: UUID, device_id: UUID) -> DeviceWorker:
    async with context.sessions.begin() as session:
        return view_device_worker(await worker_status.get_worker(session, user_id, device_id, context.clock()))


async def _resume(context: Context, user_id: UUID, device_id: UUID | None = None) -> int:
    """Resume what is stopped or in error, and have it look for work; a stuck lane plans anew."""
    async with context.sessions.begin() as session:
        workers = await worker_status.list_workers(session, user_id, context.clock(), device_id)
        halted = [worker for worker in workers if worker.status in {WorkerStatus.STOPPED, WorkerStatus.ERROR}]
        await worker_status.resume_lanes(session, user_id, [worker.device.id for worker in halted])
    await wake_lanes(context.sessions, context.temporal, context.redis, [worker.device.id for worker in halted])
    stuck = [LaneInput(worker.device.id, user_id) for worker in halted if worker.is_stuck]
    await restart_lanes(context.temporal, stuck)
    return len(halted)


def _position(worker: Worker) -> tuple[datetime, UUID]:
    return worker.device.created_at, worker.device.id


def _passes(worker: Worker, chosen: WorkerFilter, named: Collection[UUID]) -> bool:
    match chosen:
        case WorkerFilter.ALL:
            return True
        case WorkerFilter.DEVICE | WorkerFilter.CAMPAIGN | WorkerFilter.SEQUENCE:
            return worker.device.id in named
        case _:
            return worker.status.value == chosen.value


async def _named_devices(
    session: AsyncSession, user_id: UUID, chosen: WorkerFilter, identifier: str | None
) -> Collection[UUID]:
    """The devices that `id` stands for; raises `Invalid` for a missing or malformed one, `NotFound` for another user's."""
    match chosen:
        case WorkerFilter.DEVICE:
            return {(await get_device(session, user_id, _parsed(identifier, UUID))).id}
        case WorkerFilter.CAMPAIGN:
            return await worker_status.devices_of_campaign(session, user_id, _parsed(identifier, int))
        case WorkerFilter.SEQUENCE:
            return await worker_status.devices_of_sequence(session, user_id, _parsed(identifier, UUID))
        case _:
            return set()


def _parsed(identifier: str | None, kind: type[Id]) -> Id:
    if identifier is None:
        raise Invalid.field("id", "is required with this filter")
    try:
        parsed = TypeAdapter(kind).validate_python(identifier)
    except ValidationError:
        raise Invalid.field("id", "is not a valid id for this filter") from None
    return parsed
