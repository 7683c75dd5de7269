"""Linkings of real accounts as endpoints follow them: until there is a code, and from one event to the next."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.context import Context
from api.notices import heard
from siaran.devices import get_device
from siaran.errors import Conflict, NotFound, Unavailable
from siaran.linking_accounts import ACCOUNT_TAKEN, begin_linking
from siaran.linking_codes import CodeKind, LinkingCode, channel, shown_code, tell_end
from siaran.models import Pairing, PairingMethod, PairingStatus, TransportKind
from siaran.pairings import FOREIGN_MARGIN, OPEN, cancel_pairing, fail_unclaimed, find_pairing, newest_pairing, open_pairing

log = structlog.get_logger()

CLAIM_SECONDS = 8.0
"""How long a fleet may take to notice a linking."""

CODE_SECONDS = 25.0
LOOK_SECONDS = 1.0
"""How often the state is read although nothing rings: a lost notice delays a page by so much."""

REDIS_SECONDS = 1.0
REMEMBERED = timedelta(minutes=10)
"""For how long the end of a linking is told to pages that ask only then."""

NO_FLEET = "no server has taken the linking: the fleet that links devices is not running, or has its hands full"


@dataclass(frozen=True, slots=True)
class Look:
    """A linking at one moment; `is_scanned` says that the phone has agreed and the login is under way."""

    pairing: Pairing
    code: LinkingCode | None
    is_scanned: bool

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.pairing.status not in OPEN


async def is_real(context: Context, user_id: UUID, device_id: UUID) -> bool:
    """Whether a device is one of a real account; raises `NotFound`."""
    async with context.sessions() as session:
        return (await get_device(session, user_id, device_id)).transport is TransportKind.WHATSAPP


async def begin(context: Context, user_id: UUID, device_id: UUID, phone: str = "") -> LinkingCode:
    """Begin to link a device, or go on with it, and wait for the code to show; raises as `begin_linking` and `_await_code`."""
    lasts = timedelta(seconds=context.settings.pairing_seconds)
    async with context.sessions.begin() as session:
        pairing = await begin_linking(session, user_id, device_id, phone, now=context.clock(), lasts=lasts)
    return await _await_code(context, user_id, pairing.id)


async def present_qr(context: Context, user_id: UUID, device_id: UUID) -> LinkingCode:
    """The QR code of a device; begins to link it unless that is under way. Raises `Conflict` while it shows a pairing code."""
    async with context.sessions() as session:
        pairing = await open_pairing(session, user_id, device_id)
    if pairing is not None and pairing.method is PairingMethod.CODE and pairing.expires_at > context.clock():
        raise Conflict("the device is being linked by a pairing code; cancel that first")
    return await begin(context, user_id, device_id)


async def cancel(context: Context, user_id: UUID, device_id: UUID) -> bool:
    """End the linking of a device that is under way; returns whether there was one. Raises `NotFound`."""
    async with context.sessions.begin() as session:
        await get_device(session, user_id, device_id, lock=True)
        pairing = await open_pairing(session, user_id, device_id)
        cancelled = await cancel_pairing(session, user_id, device_id, context.clock())
    if pairing is not None and cancelled:
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await tell_end(context.redis, pairing.id)
        except (RedisError, TimeoutError) as error:
            log.info("end_not_told", pairing=str(pairing.id), error=type(error).__name__)
    return cancelled


async def followed_pairing(context: Context, user_id: UUID, device_id: UUID) -> UUID:
    """The linking that a device's page is to follow; raises `NotFound` if there is none, nor has been a moment ago."""
    async with context.sessions() as session:
        await get_device(session, user_id, device_id)
        pairing = await newest_pairing(session, user_id, device_id)
    if pairing is None or (pairing.ended_at is not None and pairing.ended_at < context.clock() - REMEMBERED):
        raise NotFound("the device is not being linked; begin with GET /app/login")
    return pairing.id


async def follow(context: Context, user_id: UUID, pairing_id: UUID) -> AsyncGenerator[Look]:
    """A linking at once, and again whenever something may have changed, until it is over: that is the last look."""
    started = asyncio.get_running_loop().time()
    async with context.notices.listen(channel(pairing_id)) as ring:
        while True:
            try:
                look = await _look(context, user_id, pairing_id)
            except (SQLAlchemyError, OSError) as error:  # an outage; the linking goes on meanwhile
                log.warning("linking_not_read", pairing=str(pairing_id), error=type(error).__name__)
            else:
                yield look
                if look.is_over:
                    return
                if look.pairing.status is PairingStatus.WANTED and asyncio.get_running_loop().time() - started > CLAIM_SECONDS:
                    await _fail_unclaimed(context, user_id, pairing_id)
                    continue
            await heard(ring, LOOK_SECONDS)


async def _await_code(context: Context, user_id: UUID, pairing_id: UUID) -> LinkingCode:
    """The code to show; raises `Conflict` or `Unavailable` if there will be none, with the reason."""
    latest = asyncio.get_running_loop().time() + CODE_SECONDS
    async with aclosing(follow(context, user_id, pairing_id)) as looks:
        async for look in looks:
            if look.code is not None:
                return look.code
            _refuse_over(look)
            if asyncio.get_running_loop().time() > latest:
                break
    if not await _has_redis(context):
        raise Unavailable("the code cannot be read while Redis does not answer; the linking goes on")
    raise Unavailable("WhatsApp has shown no code yet; ask again in a moment")


async def _look(context: Context, user_id: UUID, pairing_id: UUID) -> Look:
    code = await _code(context, pairing_id)
    async with context.sessions() as session:
        pairing = await find_pairing(session, user_id, pairing_id)
    if pairing is None:
        raise NotFound
    if pairing.status is PairingStatus.RUNNING and pairing.expires_at < context.clock() - FOREIGN_MARGIN:
        pairing.status = PairingStatus.EXPIRED  # its server is gone; another one's fleet will write that down
    is_scanned = code is not None and code.kind is CodeKind.SCANNED
    return Look(pairing, None if is_scanned or pairing.status not in OPEN else code, is_scanned)


async def _code(context: Context, pairing_id: UUID) -> LinkingCode | None:
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            return await shown_code(context.redis, pairing_id)
    except (RedisError, TimeoutError) as error:
        log.warning("code_not_read", pairing=str(pairing_id), error=type(error).__name__)
        return None


async def _has_redis(context: Context) -> bool:
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            return bool(await context.redis.ping())
    except (RedisError, TimeoutError):
        return False


async def _fail_unclaimed(context: Context, user_id: UUID, pairing_id: UUID) -> None:
    async with context.sessions.begin() as session:
        await fail_unclaimed(session, user_id, pairing_id, context.clock(), NO_FLEET)


def _refuse_over(look: Look) -> None:
    if look.is_scanned:
        raise Conflict("the code has been scanned already; the device is logging in")
    match look.pairing.status:
        case PairingStatus.LINKED:
            raise Conflict("the device has just been linked")
        case PairingStatus.FAILED if look.pairing.error_code == ACCOUNT_TAKEN:
            raise Conflict(look.pairing.error_message or "")
        case PairingStatus.FAILED:
            raise Unavailable(look.pairing.error_message or "")
        case PairingStatus.EXPIRED:
            raise Conflict("nobody has scanned the code in time; begin again")
        case PairingStatus.CANCELLED:
            raise Conflict("the linking was cancelled")
        case _:
            return
