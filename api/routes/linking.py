"""Linking devices by QR code, pairing code or phone number, logging them out, and connecting them again."""

import asyncio
from datetime import datetime, timedelta
from io import BytesIO
from typing import Annotated
from uuid import UUID

import segno
import structlog
from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api import linkings
from api.auth import UserDep
from api.context import Context, ContextDep
from api.csrf import refuse_cross_site
from api.envelope import Envelope, success
from api.network import NetworkDep, OptionalNetworkDep, open_network
from api.routes.devices import DeviceView
from siaran import linking
from siaran.errors import SiaranError, Unavailable
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.lanes import wake_lanes
from siaran.linking_codes import LinkingCode
from siaran.models import Device, DeviceStatus
from siaran.phone import normalise_phone
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks

log = structlog.get_logger()
router = APIRouter(tags=["linking"])

PAIRS_ITSELF_AFTER = timedelta(seconds=2)
"""How long a simulated phone takes to type in a pairing code."""

PIXELS_A_MODULE = 8

DeviceId = Annotated[UUID, Query(description="The device.")]
CamelDeviceId = Annotated[UUID, Query(alias="deviceId", description="The device.")]
GUARDED = [Depends(refuse_cross_site)]


class QrLogin(BaseModel):
    """Where the QR code is, and for how long it can be scanned."""

    qr_link: str = Field(description="The QR code as a PNG.")
    qr_duration: int = Field(description="Seconds until it expires; then ask again.")
    scan_url: str | None = Field(
        description="What the code of a simulated device holds: a POST to it scans the code. `null` for a real account."
    )
    events_url: str | None = Field(
        None, description="Stream of the codes that follow and of how the linking ends; `null` for a simulated device."
    )
    expires_at: datetime


class PairCode(BaseModel):
    """A pairing code to type on the phone."""

    pair_code: str = Field(examples=["ABCD-1234"])
    expires_at: datetime


class PhoneToLink(BaseModel):
    """A device, and the number of the account to link it to."""

    device_id: UUID
    phone: str = Field(description="In any usual form; without a country code it is of the user's own country.")


class LinkResult(BaseModel):
    """How linking went."""

    status: str = Field(examples=["linked"])
    message: str


class DeviceLine(BaseModel):
    """A device and its status."""

    device_id: UUID
    device_name: str
    status: DeviceStatus

    @classmethod
    def of(cls, device: Device) -> "DeviceLine":
        """A device's row in one line."""
        return cls(device_id=device.id, device_name=device.device_name, status=DeviceStatus(device.status))


def scan_url(request: Request, token: str) -> str:
    """What a QR code holds: the address that scans it."""
    return str(request.url_for("scan_code", token=token))


def qr_link(request: Request, device_id: UUID) -> str:
    """Where a device's QR code is shown."""
    return str(request.url_for("show_qr").include_query_params(device_id=device_id))


def draw(content: str) -> bytes:
    """A QR code as a PNG."""
    png = BytesIO()
    segno.make(content, micro=False).save(png, kind="png", scale=PIXELS_A_MODULE)
    return png.getvalue()


def _present(network: SimulatedNetwork | None) -> SimulatedNetwork:
    if network is None:
        raise Unavailable("there is no simulated network in this deployment")
    return network


async def _shown_code(context: Context, network: SimulatedNetwork | None, user_id: UUID, device_id: UUID) -> linking.ShownCode:
    async with context.sessions.begin() as session:
        return await linking.show_code(session, _present(network), user_id, device_id)


def _seconds_left(code: LinkingCode | linking.ShownCode, now: datetime) -> int:
    return max(0, int((code.expires_at - now).total_seconds()))


@router.get("/app/login", dependencies=GUARDED)
async def begin_qr_login(
    device_id: CamelDeviceId, request: Request, user: UserDep, context: ContextDep, network: OptionalNetworkDep
) -> Envelope[QrLogin]:
    """Begin to link a device by QR code, or go on with it.

    The codes of a real account change every 20 to 60 seconds until one is scanned; `events_url` streams them.
    """
    link = qr_link(request, device_id)
    if await linkings.is_real(context, user.id, device_id):
        code = await linkings.begin(context, user.id, device_id)
        results = QrLogin(
            qr_link=link,
            qr_duration=_seconds_left(code, context.clock()),
            scan_url=None,
            events_url=str(request.url_for("stream_linking", device_id=device_id)),
            expires_at=code.expires_at,
        )
        return success(results, "Scan the QR code with the phone, under Linked devices")
    shown = await _shown_code(context, network, user.id, device_id)
    results = QrLogin(
        qr_link=link,
        qr_duration=_seconds_left(shown, context.clock()),
        scan_url=scan_url(request, shown.token),
        expires_at=shown.expires_at,
    )
    return success(results, "Scan the QR code")


@router.get(
    "/app/qr",
    dependencies=GUARDED,
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The QR code."}},
)
async def show_qr(
    device_id: DeviceId, request: Request, user: UserDep, context: ContextDep, network: OptionalNetworkDep
) -> Response:
    """The current QR code of a device as a PNG; a fresh one when the last has expired."""
    if await linkings.is_real(context, user.id, device_id):
        content = (await linkings.present_qr(context, user.id, device_id)).code
    else:
        content = scan_url(request, (await _shown_code(context, network, user.id, device_id)).token)
    return Response(draw(content), media_type="image/png", headers={"Cache-Control": "no-store"})


@router.get("/simulated/scan/{token}", dependencies=GUARDED, include_in_schema=False)
@router.post("/simulated/scan/{token}")
async def scan_code(
    token: Annotated[str, Path(max_length=100, description="From the QR code, or a pairing code.")],
    user: UserDep,
    context: ContextDep,
    network: NetworkDep,
) -> Envelope[DeviceView]:
    """Scan the code of a simulated device, as its phone would: links exactly the device that the code was made for."""
    async with context.sessions.begin() as session:
        device = await linking.scan_code(session, network, user.id, token, context.clock())
    return success(DeviceView.of(device, context.clock()), "Device linked")


@router.post("/api/devices/{device_id}/link/simulate")
async def link_simulated(device_id: UUID, user: UserDep, context: ContextDep, network: NetworkDep) -> Envelope[DeviceView]:
    """Link a simulated device with one click: shows a QR code and scans it."""
    async with context.sessions.begin() as session:
        device = await linking.scan_at_once(session, network, user.id, device_id, context.clock())
    return success(DeviceView.of(device, context.clock()), "Device linked")


@router.get("/app/login-with-code", dependencies=GUARDED)
async def begin_code_login(
    *,
    device_id: DeviceId,
    phone: Annotated[str, Query(description="The phone that the code will be typed on.")],
    user: UserDep,
    context: ContextDep,
    network: OptionalNetworkDep,
    background: BackgroundTasks,
) -> Envelope[PairCode]:
    """Begin to link a device by pairing code, or go on with it. A simulated phone types it in by itself after a moment."""
    number = normalise_phone(phone, user.country)
    if await linkings.is_real(context, user.id, device_id):
        shown = await linkings.begin(context, user.id, device_id, number)
        return success(PairCode(pair_code=shown.code, expires_at=shown.expires_at), "Enter the code on the phone")
    async with context.sessions.begin() as session:
        code = await linking.begin_pairing(session, _present(network), user.id, device_id, number)
    background.add_task(_type_in, context, user.id, device_id, code.token)
    return success(PairCode(pair_code=code.code, expires_at=code.expires_at), "Enter the code on the phone")


async def _type_in(context: Context, user_id: UUID, device_id: UUID, token: str) -> None:
    """What the simulated phone does; the device may have been linked in another way, or deleted, meanwhile."""
    await asyncio.sleep(PAIRS_ITSELF_AFTER.total_seconds())
    try:
        async with open_network(context) as network, context.sessions.begin() as session:
            await linking.scan_code(session, network, user_id, token, context.clock())
    except SiaranError as error:
        log.info("pairing_code_not_used", device=str(device_id), reason=error.code)


@router.post("/app/link-device")
async def link_device(
    body: PhoneToLink, user: UserDep, context: ContextDep, network: OptionalNetworkDep
) -> Envelope[LinkResult]:
    """Link a simulated device to the account of a phone at once; for a real account, get the code to type on that phone."""
    number = normalise_phone(body.phone, user.country)
    if await linkings.is_real(context, user.id, body.device_id):
        shown = await linkings.begin(context, user.id, body.device_id, number)
        return success(LinkResult(status="pairing", message=f"Enter {shown.code} on the phone"), "Enter the code on the phone")
    async with context.sessions.begin() as session:
        device = await linking.link_phone(
            session, _present(network), user.id, body.device_id, phone=number, now=context.clock()
        )
    return success(LinkResult(status="linked", message=f"{device.device_name} is linked to {device.phone}"), "Device linked")


@router.delete("/api/devices/{device_id}/link")
async def cancel_linking(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[LinkResult]:
    """Cancel the linking of a device to a real account that is under way; a device that is linked stays so."""
    if await linkings.cancel(context, user.id, device_id):
        return success(LinkResult(status="cancelled", message="The linking is cancelled"), "Linking cancelled")
    return success(LinkResult(status="idle", message="No linking was under way"), "Nothing to cancel")


@router.get("/app/logout", dependencies=GUARDED)
@router.post("/app/logout")
async def log_out_device(
    device_id: CamelDeviceId, user: UserDep, context: ContextDep, network: OptionalNetworkDep
) -> Envelope[DeviceLine]:
    """End a device's link; what it has not sent moves to one's other devices. WhatsApp is told within a minute."""
    async with context.sessions.begin() as session:
        device = await linking.log_out(session, network, user.id, device_id, context.clock())
    nudge_webhooks(context.temporal, targets_told(session))
    await wake_lanes(context.sessions, context.temporal, context.redis, [device_id])
    return success(DeviceLine.of(device), "Device logged out")


@router.get("/app/reconnect", dependencies=GUARDED)
@router.post("/app/reconnect")
async def reconnect_device(device_id: CamelDeviceId, user: UserDep, context: ContextDep) -> Envelope[DeviceLine]:
    """Connect a linked device again."""
    async with context.sessions.begin() as session:
        device = await linking.reconnect(session, user.id, device_id)
    return success(DeviceLine.of(device), "Device connecting" if device.status != DeviceStatus.ONLINE else "Device online")
