"""Preparing a Temporal namespace on a server that is not ours."""

from uuid import uuid4

from temporalio.client import Client

from siaran.namespaces import SEARCH_ATTRIBUTES, prepare_namespace
from siaran.settings import Settings


async def test_a_namespace_is_prepared_once_and_left_alone_afterwards(settings: Settings) -> None:
    fresh = settings.model_copy(update={"temporal_namespace": f"test-{uuid4().hex}"})
    await prepare_namespace(fresh)
    await prepare_namespace(fresh)
    assert fresh.temporal_address is not None
    client = await Client.connect(fresh.temporal_address, namespace=fresh.temporal_namespace)
    for key in SEARCH_ATTRIBUTES:
        value = 1 if key.indexed_value_type.name == "INT" else "'x'"
        assert [execution async for execution in client.list_workflows(f"{key.name} = {value}")] == []
