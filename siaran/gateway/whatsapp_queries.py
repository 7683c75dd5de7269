"""Questions that a device's client can be asked: numbers, contacts, pictures, files."""

from typing import Any

from siaran.gateway.whatsapp_client import Client
from siaran.gateway.whatsapp_errors import download_error, is_without_picture, query_error
from siaran.gateway.whatsapp_events import Address, phone_of
from siaran.gateway.whatsapp_library import load_library

CHECK_SECONDS = 20.0
QUERY_SECONDS = 30.0
DOWNLOAD_SECONDS = 120.0


async def check_numbers(client: Client, phones: list[str]) -> dict[str, bool]:
    """Which phones have an account; raises `NotConnected` or `LoggedOut`. What WhatsApp says nothing of is left out."""
    try:
        answers = await client.ask(lambda library: library.is_on_whatsapp(*(f"+{phone}" for phone in phones)), CHECK_SECONDS)
    except load_library().error as error:
        raise query_error(str(error)) from error
    found = {str(answer.Query).lstrip("+"): bool(answer.IsIn) for answer in answers}
    return {phone: found[phone] for phone in phones if phone in found}


async def contact_names(client: Client) -> dict[str, str]:
    """The names under which the account knows its contacts, by phone; raises `NotConnected` or `LoggedOut`."""
    try:
        contacts = await client.ask(lambda library: library.contact.get_all_contacts(), QUERY_SECONDS)
    except load_library().error as error:
        raise query_error(str(error)) from error
    names: dict[str, str] = {}
    for contact in contacts:
        info, address = contact.Info, Address.of(contact.JID)
        name = info.FullName or info.FirstName or info.BusinessName or info.PushName
        if name and address.is_person:
            phone = await phone_of(client.phone_of_lid, address)
            if phone.isdigit():
                names.setdefault(phone, name)
    return names


async def picture_url(client: Client, chat: str) -> str | None:
    """Where the picture of a chat can be read for some time, None where there is none; raises `NotConnected` or `LoggedOut`."""
    user, _, server = chat.partition("@")
    jid = jid_of(user, server or "s.whatsapp.net")
    try:
        picture = await client.ask(lambda library: library.get_profile_picture(jid), QUERY_SECONDS)
    except load_library().error as error:
        if is_without_picture(str(error)):
            return None
        raise query_error(str(error)) from error
    return str(picture.URL) or None


async def download(client: Client, reference: bytes) -> bytes:
    """The file that a reference stands for; raises `NotConnected`, `LoggedOut` or `Rejected` (`media_gone`, `media_broken`)."""
    message = load_library().contents.Message.FromString(reference)
    try:
        content: bytes | None = await client.ask(lambda library: library.download_any(message), DOWNLOAD_SECONDS)
    except load_library().error as error:
        raise download_error(str(error)) from error
    return content or b""


def jid_of(user: str, server: str = "s.whatsapp.net") -> Any:
    """An address as the library wants it, all fields of which are required."""
    return load_library().events.JID(User=user, Server=server, Device=0, RawAgent=0, Integrator=0, IsEmpty=False)
