"""The throw-away process that ends one link on WhatsApp's side: `python -m worker.pairing_end --unlinking-id ID`."""

import structlog
from sqlalchemy import select

from siaran.db import SessionMaker, open_database
from siaran.gateway.interface import NotConnected
from siaran.gateway.session_files import linked_jid, remove_session, session_path
from siaran.models import Unlinking
from siaran.settings import Settings
from siaran.unlinkings import close_unlinking, note_failure
from worker.pairing_client import Code, Lost, Online, Paired, PairingClient
from worker.pairing_process import run_and_leave

log = structlog.get_logger()

LOGIN_SECONDS = 45.0
GONE = {"logged_out"}
"""What happens to a link that has been ended on the phone meanwhile."""


async def end_link(settings: Settings, row: str) -> None:
    """Log a session out, remove its file and close the row; whatever fails is tried again later."""
    async with open_database(settings, pool_size=1) as sessions:
        async with sessions() as session:
            wanted = await session.scalar(select(Unlinking).where(Unlinking.id == int(row), Unlinking.done_at.is_(None)))
        if wanted is None:
            return
        path = session_path(settings.session_folder, wanted.device_id, wanted.link_generation)
        if await linked_jid(path) is not None:
            reason = await _log_out(PairingClient(path, settings.app_os))
            if reason:
                await _note(sessions, wanted.id, reason)
                return
        async with sessions.begin() as session:
            await close_unlinking(session, wanted.id)
        # Last: a session without a link that is left behind is found and removed, an unlinking without its session is not.
        remove_session(settings.session_folder, wanted.device_id, wanted.link_generation)
        log.info("unlinked", unlinking=wanted.id, device=str(wanted.device_id))


async def _log_out(client: PairingClient) -> str:
    """Log in and out again; returns why it could not be done, empty if the link is gone."""
    await client.connect()
    while True:
        match await client.next_event(LOGIN_SECONDS):
            case Online():
                break
            case Lost("disconnected") | Paired() | Code():
                continue
            case Lost(code):
                return "" if code in GONE else code
            case None:
                return "silent"
    try:
        await client.log_out()
    except NotConnected:
        return "not_connected"
    return ""


async def _note(sessions: SessionMaker, unlinking_id: int, reason: str) -> None:
    log.warning("not_unlinked", unlinking=unlinking_id, reason=reason)
    async with sessions.begin() as session:
        await note_failure(session, unlinking_id, reason)


if __name__ == "__main__":
    run_and_leave("--unlinking-id", end_link)
