"""Temporal: the client of a process, and the signals that bring workflows back to look at their rows."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog
from temporalio.client import Client
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.converter import DataConverter
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from siaran.contracts import (
    WORKFLOW_QUEUE,
    CampaignInput,
    LaneInput,
    Moved,
    RetryInput,
    campaign_workflow_id,
    device_workflow_id,
)
from siaran.failures import DiscreetFailureConverter
from siaran.search_attributes import CAMPAIGN, DEVICE, STATUS, USER
from siaran.settings import Settings

log = structlog.get_logger()

NUDGE_TIMEOUT = timedelta(seconds=3)
"""How long a caller waits for Temporal before it leaves the signal to the sweep."""

_LANE_STARTS = asyncio.Semaphore(16)
"""Bounds the lane starts of a process: a burst of them starves dispatch on the embedded server until it is over."""

DATA_CONVERTER = replace(DataConverter.default, failure_converter_class=DiscreetFailureConverter)


async def connect(settings: Settings, *, lazy: bool = False, runtime: Runtime | None = None) -> Client:
    """A client of the configured server; a lazy one connects at its first call and never fails here.

    Raises `ValueError` when no address is set and `RuntimeError` when the server does not answer (not lazy).
    """
    if settings.temporal_address is None:
        raise ValueError("no Temporal: set TEMPORAL_ADDRESS or start the embedded stack with `siaran up`")
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        tls=_tls(settings),
        data_converter=DATA_CONVERTER,
        lazy=lazy,
        runtime=runtime,
    )


def _tls(settings: Settings) -> TLSConfig | bool:
    def read(path: Path | None) -> bytes | None:
        return path.read_bytes() if path else None

    config = TLSConfig(
        server_root_ca_cert=read(settings.temporal_tls_server_ca_path),
        client_cert=read(settings.temporal_tls_client_cert_path),
        client_private_key=read(settings.temporal_tls_client_key_path),
    )
    return config if config != TLSConfig() else settings.temporal_tls or settings.temporal_api_key is not None


def campaign_attributes(campaign: CampaignInput, status: str) -> TypedSearchAttributes:
    """What lists of executions in the Temporal UI show of a campaign."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(USER, str(campaign.user_id)),
            SearchAttributePair(CAMPAIGN, campaign.campaign_id),
            SearchAttributePair(STATUS, status),
        ]
    )


def lane_attributes(lane: LaneInput, status: str) -> TypedSearchAttributes:
    """What lists of executions in the Temporal UI show of a lane."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(USER, str(lane.user_id)),
            SearchAttributePair(DEVICE, str(lane.device_id)),
            SearchAttributePair(STATUS, status),
        ]
    )


async def signal_campaign(client: Client, campaign: CampaignInput, signal: str, *args: object) -> None:
    """Signal a campaign's workflow, starting a run where none is open; raises `RPCError` when Temporal is away."""
    await client.start_workflow(
        "CampaignWorkflow",
        campaign,
        id=campaign_workflow_id(campaign.campaign_id),
        task_queue=WORKFLOW_QUEUE,
        start_signal=signal,
        start_signal_args=args,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        search_attributes=campaign_attributes(campaign, "starting"),
        static_summary=f"Campaign {campaign.campaign_id}",
        rpc_timeout=NUDGE_TIMEOUT,
    )


async def nudge_campaign(client: Client, campaign: CampaignInput) -> bool:
    """Have a campaign's workflow look at its row again; False when Temporal is away and the sweep has to make up for it."""
    return await _nudge(client, campaign, "changed")


async def request_retry(client: Client, retry: RetryInput) -> bool:
    """Have a campaign's workflow carry out a row of `campaign_retries`; False when it is left to the sweep."""
    return await _nudge(client, CampaignInput(retry.campaign_id, retry.user_id), "retry_failed", retry)


async def _nudge(client: Client, campaign: CampaignInput, signal: str, *args: object) -> bool:
    try:
        await signal_campaign(client, campaign, signal, *args)
    except (RPCError, RuntimeError, OSError) as error:
        log.warning("temporal_nudge_failed", campaign=campaign.campaign_id, signal=signal, error=type(error).__name__)
        return False
    return True


async def signal_lanes(client: Client, lanes: Iterable[LaneInput]) -> int:
    """Wake lanes by signal-with-start at a bounded rate; returns how many could not be reached and are left to the sweep."""
    return await _signal_lanes(client, lanes, "wake")


async def restart_lanes(client: Client, lanes: Iterable[LaneInput]) -> int:
    """Have lanes drop the send they wait for and plan anew, starting those that are not open; returns how many were missed."""
    return await _signal_lanes(client, lanes, "moved", Moved(host_id=0))


async def _signal_lanes(client: Client, lanes: Iterable[LaneInput], signal: str, *args: object) -> int:
    async def send(lane: LaneInput) -> bool:
        async with _LANE_STARTS:
            try:
                await client.start_workflow(
                    "DeviceWorkflow",
                    lane,
                    id=device_workflow_id(lane.device_id),
                    task_queue=WORKFLOW_QUEUE,
                    start_signal=signal,
                    start_signal_args=args,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    search_attributes=lane_attributes(lane, "starting"),
                    static_summary=f"Lane of device {lane.device_id}",
                    rpc_timeout=NUDGE_TIMEOUT * 3,
                )
            except (RPCError, RuntimeError, OSError) as error:
                log.warning("lane_signal_failed", device=str(lane.device_id), error=type(error).__name__)
                return False
            return True

    done = await asyncio.gather(*(send(lane) for lane in lanes))
    return done.count(False)


async def signal_moved(client: Client, device_id: UUID, host_id: int) -> None:
    """Tell a device's lane, if one is open, which host holds its connection now; raises `RPCError` when Temporal is away."""
    handle = client.get_workflow_handle(device_workflow_id(device_id))
    try:
        await handle.signal("moved", Moved(host_id), rpc_timeout=NUDGE_TIMEOUT)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
