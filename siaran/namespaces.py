"""Prepares the configured Temporal namespace, with the search attributes of our executions: `python -m siaran.namespaces`."""

import asyncio
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from siaran.search_attributes import CAMPAIGN, DEVICE, SEQUENCE, STATUS, USER
from siaran.settings import Settings, get_settings
from siaran.temporal import connect

SEARCH_ATTRIBUTES = (USER, CAMPAIGN, DEVICE, SEQUENCE, STATUS)
"""What an execution can be found by in the Temporal UI."""

RETENTION = timedelta(days=7)
"""How long the history of an ended execution is kept in a namespace that is created here."""

KNOWN_EVERYWHERE_WITHIN = timedelta(seconds=30)
"""A server reads its list of namespaces every ten seconds."""


async def prepare_namespace(settings: Settings) -> None:
    """Create what is missing of the configured namespace and its search attributes; raises `RPCError` when that fails.

    Needs a self-hosted server: Temporal Cloud lets no client do this, there both are made in its console.
    """
    client = await connect(settings)
    await _register(client)
    async with asyncio.timeout(KNOWN_EVERYWHERE_WITHIN.total_seconds()):
        while not await _add_search_attributes(client):  # noqa: ASYNC110 - the server tells nobody when it knows it
            await asyncio.sleep(0.5)


async def _register(client: Client) -> None:
    request = RegisterNamespaceRequest(namespace=client.namespace, workflow_execution_retention_period=Duration())
    request.workflow_execution_retention_period.FromTimedelta(RETENTION)
    try:
        await client.workflow_service.register_namespace(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _add_search_attributes(client: Client) -> bool:
    """Add the missing search attributes; False while the part of the server that was asked does not know the namespace yet."""
    try:
        found = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
        missing = [key for key in SEARCH_ATTRIBUTES if key.name not in found.custom_attributes]
        kinds = {key.name: IndexedValueType.ValueType(int(key.indexed_value_type)) for key in missing}
        if kinds:
            request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
            await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


if __name__ == "__main__":
    asyncio.run(prepare_namespace(get_settings()))
