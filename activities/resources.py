"""What the activities of a worker process share."""

from dataclasses import dataclass

from redis.asyncio import Redis
from temporalio.client import Client

from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """The stores, the clock and the settings of a worker process."""

    settings: Settings
    sessions: SessionMaker
    redis: Redis
    client: Client
    clock: Clock
