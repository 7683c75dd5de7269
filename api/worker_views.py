"""Lanes as the API shows them, in the words of the original."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from siaran.models import CampaignStatus, DeviceStatus, LaneState, SequenceStatus
from siaran.worker_status import Worker, WorkerStatus, WorkerTotals


class WorkerFilter(StrEnum):
    """Which lanes to list: all, those in a state, or those of the device, campaign or sequence that `id` names."""

    ALL = "all"
    DEVICE = "device"
    CAMPAIGN = "campaign"
    SEQUENCE = "sequence"
    ACTIVE = "active"
    IDLE = "idle"
    WAITING = "waiting"
    STOPPED = "stopped"
    ERROR = "error"


class WorkerView(BaseModel):
    """The lane of a device."""

    device_id: UUID
    device_name: str
    device_status: DeviceStatus
    worker_status: WorkerStatus = Field(
        description="`active` sends; `waiting` has messages and waits for something; `idle` has nothing to send; `stopped` "
        "by the user; `error`: no progress for 10 minutes, or the account is banned or logged out."
    )
    queue_size: int = Field(description="Messages that are pending on this device.")
    processed: int = Field(description="Messages it has been through with since it was added, failed ones included.")
    failed: int
    success_rate: float = Field(description="Percent of the processed messages that did not fail; 0 without any.")
    last_activity: datetime | None
    current_campaign_id: int | None
    current_sequence_id: UUID | None
    waiting_for: str | None
    waiting_until_at: datetime | None
    last_error: str | None


class WorkerSummary(BaseModel):
    """Totals over lanes."""

    total_workers: int
    active_workers: int
    idle_workers: int
    waiting_workers: int
    stopped_workers: int
    error_workers: int
    total_queued: int
    total_processed: int
    total_failed: int

    @classmethod
    def of(cls, totals: WorkerTotals) -> "WorkerSummary":
        """Totals as the original names them."""
        return cls(
            total_workers=totals.workers,
            **{f"{status}_workers": count for status, count in totals.by_status.items()},
            total_queued=totals.queued,
            total_processed=totals.processed,
            total_failed=totals.failed,
        )


class WorkerOverview(BaseModel):
    """The lanes that a filter lets through, a page of them in detail."""

    total_workers: int = Field(description="All lanes of the user, whatever the filter.")
    user_devices: int
    connected_devices: int = Field(description="Devices that are online.")
    device_workers: list[WorkerView]
    filter: WorkerFilter
    summary: WorkerSummary = Field(description="Totals over all lanes that the filter lets through.")
    workers: list[WorkerView] = Field(description="The same as `device_workers`.")
    next_cursor: str | None


class CurrentCampaign(BaseModel):
    """The campaign that a lane sends for."""

    id: int
    name: str
    status: CampaignStatus


class CurrentSequence(BaseModel):
    """The sequence that a lane sends for."""

    id: UUID
    name: str
    status: SequenceStatus


class DeviceWorker(BaseModel):
    """The lane of one device."""

    device_id: UUID
    device_name: str
    worker_exists: bool = Field(description="Whether its workflow is open; without messages it is not.")
    status: WorkerStatus
    queue_size: int
    processed_count: int
    failed_count: int
    success_rate: float
    last_activity: datetime | None
    is_active: bool = Field(description="Whether it is sending.")
    current_campaign: CurrentCampaign | None
    current_sequence: CurrentSequence | None
    message: str = Field(description="What it does, in words.")


def _success_rate(worker: Worker) -> float:
    processed = worker.lane.processed
    return round(100 * (processed - worker.lane.failed) / processed, 1) if processed else 0.0


def view_worker(worker: Worker) -> WorkerView:
    """A lane as one row of the worker page."""
    device, lane = worker.device, worker.lane
    return WorkerView(
        device_id=device.id,
        device_name=device.device_name,
        device_status=DeviceStatus(device.status),
        worker_status=worker.status,
        queue_size=worker.queue_size,
        processed=lane.processed,
        failed=lane.failed,
        success_rate=_success_rate(worker),
        last_activity=lane.last_activity_at,
        current_campaign_id=worker.campaign.id if worker.campaign else None,
        current_sequence_id=worker.sequence.id if worker.sequence else None,
        waiting_for=lane.waiting_for,
        waiting_until_at=lane.waiting_until_at,
        last_error=lane.last_error,
    )


def view_device_worker(worker: Worker) -> DeviceWorker:
    """A lane as the page of its device shows it."""
    device, lane = worker.device, worker.lane
    return DeviceWorker(
        device_id=device.id,
        device_name=device.device_name,
        worker_exists=lane.state != LaneState.ASLEEP,
        status=worker.status,
        queue_size=worker.queue_size,
        processed_count=lane.processed,
        failed_count=lane.failed,
        success_rate=_success_rate(worker),
        last_activity=lane.last_activity_at,
        is_active=worker.status is WorkerStatus.ACTIVE,
        current_campaign=CurrentCampaign(
            id=worker.campaign.id, name=worker.campaign.title, status=CampaignStatus(worker.campaign.status)
        )
        if worker.campaign
        else None,
        current_sequence=CurrentSequence(
            id=worker.sequence.id, name=worker.sequence.name, status=SequenceStatus(worker.sequence.status)
        )
        if worker.sequence
        else None,
        message=_in_words(worker),
    )


def _in_words(worker: Worker) -> str:
    device = worker.device.device_name
    match worker.status:
        case WorkerStatus.STOPPED:
            return f"{device} is stopped; resume it to send"
        case WorkerStatus.ERROR if worker.is_stuck:
            return f"{device} has made no progress for 10 minutes"
        case WorkerStatus.ERROR:
            return f"{device} is {worker.device.status.replace('_', ' ')}"
        case WorkerStatus.ACTIVE:
            return f"{device} is sending"
        case WorkerStatus.WAITING:
            return f"{device} waits: {worker.lane.waiting_for or 'for its turn'}"
        case WorkerStatus.IDLE:
            return f"{device} has nothing to send"
