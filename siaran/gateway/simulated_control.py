"""How running transports hear of what happens on the simulated network: notices on a channel, and whether it can be reached."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from siaran.errors import Unavailable
from siaran.gateway import simulated_keys as keys
from siaran.gateway.simulated_inbox import Entry
from siaran.gateway.simulated_valkey import NetworkValkey

logger = logging.getLogger(__name__)

PING_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0


class NoticeKind(StrEnum):
    """What a notice is about; the first four end connections."""

    REPLACED = "replaced"
    DROPPED = "dropped"
    BANNED = "banned"
    LOGGED_OUT = "logged_out"
    RESTORED = "restored"
    INCOMING = "incoming"
    CONFIGURED = "configured"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice: `tokens` are the connections it ends, `until` (ms) is the end of a drop or ban."""

    kind: NoticeKind
    device_id: UUID | None = None
    tokens: tuple[str, ...] = ()
    until: int | None = None
    entry: Entry | None = None

    @classmethod
    def parsed(cls, text: str) -> "Notice":
        """A notice from its JSON text, as the scripts publish it."""
        values: dict[str, Any] = json.loads(text)
        return cls(
            kind=NoticeKind(values["kind"]),
            device_id=UUID(values["device"]) if "device" in values else None,
            tokens=tuple(values.get("tokens", ())),
            until=int(values["until_at"]) if values.get("until_at") else None,
            entry=Entry.parsed(values["field"], values["value"]) if "field" in values else None,
        )


class Subscriber(Protocol):
    """Who is told what happens."""

    async def reached(self) -> None:
        """The channel is followed (again); no notice is missed from here on."""

    async def noticed(self, notice: Notice) -> None:
        """Something happened."""

    def lost(self) -> None:
        """The network is out of reach; called again at every vain attempt to reach it."""


async def follow(valkey: NetworkValkey, subscriber: Subscriber) -> None:
    """Follow the control channel until cancelled, for as long as it takes to reach the network again after it was lost."""
    delay = FIRST_RETRY_SECONDS
    while True:
        client = valkey.subscriber()
        channel = client.pubsub()
        try:
            await channel.subscribe(keys.CONTROL)
            await channel.get_message(timeout=PING_SECONDS)  # the confirmation: from here on no notice is missed
            await subscriber.reached()
            delay = FIRST_RETRY_SECONDS
            await _forward(channel, subscriber.noticed)
        except (RedisError, OSError, Unavailable) as error:
            logger.info("simulated network out of reach: %s", error)
        finally:
            subscriber.lost()
            await channel.aclose()  # type: ignore[no-untyped-call]  # the library leaves it untyped
            await client.aclose()
        await asyncio.sleep(delay)
        delay = min(delay * 2, LAST_RETRY_SECONDS)


async def _forward(channel: PubSub, notify: Callable[[Notice], Awaitable[None]]) -> None:
    """Hand on every notice; a ping in every silence shows whether the server is still there."""
    unanswered = False
    while True:
        message = await channel.get_message(timeout=PING_SECONDS)
        if message is None:
            if unanswered:
                raise TimeoutError("no answer to a ping")
            await channel.ping()
            unanswered = True
            continue
        unanswered = False
        if message["type"] == "message":
            await notify(Notice.parsed(message["data"]))
