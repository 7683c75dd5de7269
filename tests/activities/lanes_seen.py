"""What tests see of the lanes' workflows: which ones somebody has signalled."""

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from siaran.contracts import campaign_workflow_id, device_workflow_id
from siaran.models import Campaign, Device


async def signals_of_lane(client: Client, device: Device) -> list[str]:
    """The signals that the device's lane has had in its newest run, in order."""
    return await _signals(client, device_workflow_id(device.id))


async def signals_of_campaign(client: Client, campaign: Campaign) -> list[str]:
    """The signals that the campaign's workflow has had in its newest run, in order."""
    return await _signals(client, campaign_workflow_id(campaign.id))


async def _signals(client: Client, workflow_id: str) -> list[str]:
    try:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return []
        raise
    return [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    ]
