"""The stream that a page follows while a device is linked to a real account."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from api import linkings
from api.auth import UserDep
from api.context import Context, ContextDep
from api.linkings import Look
from api.routes.linking import draw, qr_link
from siaran.devices import get_device
from siaran.errors import NotFound
from siaran.linking_codes import CodeKind, LinkingCode
from siaran.models import PairingStatus

router = APIRouter(tags=["linking"])

PING_LOOKS = 10
"""After how many looks without news a comment is sent, so that nothing on the way takes the connection for dead."""

# Proxies that collect answers would hold the codes back until they are worthless.
UNBUFFERED = {"X-Accel-Buffering": "no"}

Told = tuple[str, dict[str, object]]


@router.get(
    "/api/devices/{device_id}/link/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events of the linking."},
        204: {"description": "The linking is over, and the caller has been told so."},
    },
)
async def stream_linking(device_id: UUID, request: Request, user: UserDep, context: ContextDep) -> Response:
    """Follow the linking of a device to a real account, as server-sent events, until it is over.

    Events: `status` (`wanted`, `running`, `scanned`); `code` (a QR code as `qr_link`, `png` and `code`, or a `pair_code`; with
    `expires_at`) whenever it changes; at the end one of `linked` (`device_id`, `device_name`, `phone`), `failed` (`error_code`,
    `message`), `expired` and `cancelled`. A page that connects late, or again, gets the present state first; one that has had
    the end, which browsers tell by `Last-Event-ID`, gets a 204.
    """
    pairing_id = await linkings.followed_pairing(context, user.id, device_id)
    if request.headers.get("last-event-id") == _end_id(pairing_id):
        return Response(status_code=204)  # upon which browsers stop asking
    events = _events(context, user.id, device_id, pairing_id, qr_link(request, device_id))
    return EventSourceResponse(events, headers=UNBUFFERED)


async def _events(context: Context, user_id: UUID, device_id: UUID, pairing_id: UUID, link: str) -> AsyncIterator[bytes]:
    status, code, quiet = "", None, 0
    async with aclosing(linkings.follow(context, user_id, pairing_id)) as looks:
        async for look in looks:
            if look.is_over:
                yield _written(await _ending(context, user_id, device_id, look), _end_id(pairing_id))
                return
            told: list[Told] = []
            present = "scanned" if look.is_scanned else str(look.pairing.status)
            if status not in {present, "scanned"}:
                status = present
                told.append(("status", {"status": status, "method": look.pairing.method}))
            if look.code is not None and look.code != code:
                code = look.code
                told.append(("code", _shown(code, link)))
            quiet = 0 if told else quiet + 1
            for one in told:
                yield _written(one)
            if quiet % PING_LOOKS == PING_LOOKS - 1:
                yield format_sse_event(comment="waiting")


def _shown(code: LinkingCode, link: str) -> dict[str, object]:
    until = {"expires_at": code.expires_at.isoformat()}
    if code.kind is CodeKind.PAIR_CODE:
        return {"pair_code": code.code, **until}
    png = f"data:image/png;base64,{b64encode(draw(code.code)).decode()}"
    return {"qr_link": link, "png": png, "code": code.code, **until}


async def _ending(context: Context, user_id: UUID, device_id: UUID, look: Look) -> Told:
    pairing = look.pairing
    if pairing.status is not PairingStatus.LINKED:
        return str(pairing.status), {"error_code": pairing.error_code, "message": pairing.error_message}
    try:
        async with context.sessions() as session:
            device = await get_device(session, user_id, device_id)
    except NotFound:
        return "cancelled", {"error_code": None, "message": "the device has been deleted"}
    return "linked", {"device_id": str(device.id), "device_name": device.device_name, "phone": device.phone}


def _written(told: Told, event_id: str | None = None) -> bytes:
    name, data = told
    return format_sse_event(event=name, data_str=json.dumps(data), id=event_id)


def _end_id(pairing_id: UUID) -> str:
    return f"end:{pairing_id}"
