"""The simulated network as an endpoint reaches it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends

from api.context import Context, ContextDep
from siaran.errors import Unavailable
from siaran.gateway.simulated_network import SimulatedNetwork


@asynccontextmanager
async def open_network(context: Context) -> AsyncIterator[SimulatedNetwork]:
    """The network for one request: linking is rare, so no connection is kept. Raises `Unavailable` where none is set up."""
    if context.settings.network_url is None:
        raise Unavailable("there is no simulated network in this deployment")
    async with SimulatedNetwork(context.settings.network_url.get_secret_value(), clock=context.clock) as network:
        yield network


async def _network(context: ContextDep) -> AsyncIterator[SimulatedNetwork]:
    async with open_network(context) as network:
        yield network


NetworkDep = Annotated[SimulatedNetwork, Depends(_network)]


async def _network_if_any(context: ContextDep) -> AsyncIterator[SimulatedNetwork | None]:
    if context.settings.network_url is None:
        yield None
        return
    async with open_network(context) as network:
        yield network


OptionalNetworkDep = Annotated[SimulatedNetwork | None, Depends(_network_if_any)]
"""The network for an endpoint that also serves devices of real accounts; None where none is set up."""
