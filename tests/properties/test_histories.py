"""Whatever users do with campaigns and devices, every message is accounted for and nobody gets one twice.

Each example is one user's random history; several users live it side by side, through the API, with real workflows, a real
host and a real ledger. `PROPERTY_EXAMPLES=100` plays more of them, `PROPERTY_SEED=7` others.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.settings import Settings
from tests.properties.checks import check, check_stops, compare
from tests.properties.marketer import Marketer
from tests.properties.street import Street, open_street

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "8"))
FIRST_SEED = int(os.environ.get("PROPERTY_SEED", "1"))
AT_ONCE = 4
STEPS = 14


@pytest.fixture
async def street(settings: Settings, sessions: SessionMaker, redis: Redis, temporal_client: Client) -> AsyncIterator[Street]:
    """A product whose network refuses some messages, and loses the acknowledgement of a few."""
    async with open_street(settings, sessions, redis, temporal_client) as street:
        await street.network.configure(
            latency_ms=(10, 60), failure_rate=0.1, ack_loss_rate=0.04, ack_timeout_seconds=0.3, late_ack=True,
            delivered_seconds=(0.05, 0.3), read_rate=0.3, read_seconds=(0.1, 0.5),
        )  # fmt: skip
        yield street


async def live(street: Street, seeds: range) -> list[Marketer]:
    """Users with these seeds, whose histories have come to rest."""
    marketers = [Marketer(street, seed) for seed in seeds]
    for marketer in marketers:
        await marketer.move_in()

    async def live_one(marketer: Marketer) -> None:
        await marketer.live(STEPS)
        try:
            await marketer.come_to_rest()
        except TimeoutError:
            pytest.fail(f"no rest: {await marketer.open_things()}\n{marketer}")

    await asyncio.gather(*(live_one(marketer) for marketer in marketers))
    return marketers


@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + EXAMPLES, AT_ONCE))
async def test_every_message_is_accounted_for_whatever_happens(street: Street, first_seed: int) -> None:
    await street.network.configure(seed=first_seed)
    for marketer in await live(street, range(first_seed, min(first_seed + AT_ONCE, FIRST_SEED + EXAMPLES))):
        await check(marketer)
    # Had nothing gone out, all of this would hold as well.
    assert (await street.network.counts()).transmissions > AT_ONCE * 5


async def test_session_stores_that_forget_attempts_are_found_out(street: Street) -> None:
    await street.network.configure(forget_attempts=True, ack_loss_rate=0.3, failure_rate=0)
    marketer = Marketer(street, 1_000)
    await marketer.move_in()
    await marketer.create()
    await marketer.come_to_rest()
    assert (await compare(marketer)).duplicates


async def test_a_pause_and_an_opt_out_that_do_not_hold_are_found_out(street: Street) -> None:
    paused, opted_out = Marketer(street, 2_000), Marketer(street, 2_001)
    for marketer in (paused, opted_out):
        await marketer.move_in()
    await paused.create()
    await paused.pause()
    await opted_out.opt_out()
    # Behind their backs:
    await paused.ask("POST", f"/api/campaigns/{paused.campaigns[0]}/resume")
    [number] = opted_out.opt_outs.values()
    await opted_out.ask("POST", f"/api/opt-outs/{number}/lift")
    await opted_out.create(niche="")
    for marketer in (paused, opted_out):
        await marketer.come_to_rest()
        assert (await compare(marketer)).is_clean
        with pytest.raises(AssertionError, match="within Span"):
            await check_stops(marketer)
