"""What is to be scanned or typed to link a real account: passed from the process that links to whoever watches, by Redis only.

Losing it loses nothing but a code: the state of a linking is in PostgreSQL.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from redis.asyncio import Redis

from siaran.clock import Clock, system_clock

LONGEST_KEPT_SECONDS = 300


class CodeKind(StrEnum):
    """What a code is; `SCANNED` is none, but says that the phone has agreed and the login is under way."""

    QR = "qr"
    PAIR_CODE = "pair_code"
    SCANNED = "scanned"


@dataclass(frozen=True, slots=True)
class LinkingCode:
    """The present code of a linking: the content of a QR code, or letters to type on the phone."""

    kind: CodeKind
    code: str
    expires_at: datetime


def channel(pairing_id: UUID) -> str:
    """The key that holds a linking's present code, and the channel that tells of each change."""
    return f"pairing:{pairing_id}"


async def show_code(redis: Redis, pairing_id: UUID, code: LinkingCode, *, clock: Clock = system_clock) -> None:
    """Replace a linking's code and tell whoever watches; raises `RedisError`."""
    content = json.dumps({"kind": code.kind, "code": code.code, "expires_at": code.expires_at.isoformat()})
    seconds = min(max(1, int((code.expires_at - clock()).total_seconds())), LONGEST_KEPT_SECONDS)
    await redis.set(channel(pairing_id), content, ex=seconds)
    await redis.publish(channel(pairing_id), "code")


async def tell_end(redis: Redis, pairing_id: UUID) -> None:
    """A linking has ended: take its code away and tell whoever watches; raises `RedisError`."""
    await redis.delete(channel(pairing_id))
    await redis.publish(channel(pairing_id), "end")


async def shown_code(redis: Redis, pairing_id: UUID) -> LinkingCode | None:
    """A linking's present code, if there is one; raises `RedisError`."""
    content = await redis.get(channel(pairing_id))
    if content is None:
        return None
    told = json.loads(content)
    return LinkingCode(CodeKind(told["kind"]), told["code"], datetime.fromisoformat(told["expires_at"]))
