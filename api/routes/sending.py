"""Messages that are sent at once, by the paths of the original: text, link, files, location, contact, poll."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from api.envelope import Envelope
from api.send_bodies import LARGEST_BODY, Order, describe_body
from api.sending import Sending, SendingDep, SentView
from siaran.errors import FieldError, Invalid
from siaran.gateway.interface import MessageType
from siaran.media_types import ACCEPTED
from siaran.message_contents import ContactCard, Content, Location, Poll
from siaran.one_off import MAX_TEXT, OneOff
from siaran.phone import InvalidPhone
from siaran.public_addresses import MAX_URL, is_web_url
from siaran.recipients import read_recipient

router = APIRouter(tags=["sending"])

QUEUED: dict[int | str, dict[str, Any]] = {202: {"model": Envelope[SentView], "description": "Queued: not sent yet."}}

Url = Annotated[str | None, BeforeValidator(lambda value: None if isinstance(value, str) and not value.strip() else value)]


def _url(what: str) -> Any:
    description = f"Instead of the upload: where to fetch the {what} from, once, or the `/api/media/…` of one you uploaded."
    return Field(None, max_length=MAX_URL, description=description, examples=["https://example.com/promo"])


def _caption() -> Any:
    return Field("", max_length=MAX_TEXT, description="Text below it.", examples=["New arrivals"])


class TextOrder(Order):
    """A text to send."""

    message: str = Field(max_length=MAX_TEXT, description="The text, sent as it stands.", examples=["Selamat pagi"])


class LinkOrder(Order):
    """A link to send."""

    link: str = Field(max_length=MAX_URL, description="An http or https address.", examples=["https://example.com"])
    caption: str = _caption()


class ImageOrder(Order):
    """An image to send."""

    caption: str = _caption()
    image_url: Url = _url("image")


class FileOrder(Order):
    """A document to send; any file can be one."""

    caption: str = _caption()
    file_url: Url = _url("file")


class VideoOrder(Order):
    """A video to send."""

    caption: str = _caption()
    video_url: Url = _url("video")


class AudioOrder(Order):
    """A recording to send."""

    audio_url: Url = _url("recording")


class LocationOrder(Order):
    """A place to send."""

    latitude: float = Field(description="Degrees north, -90 to 90.", examples=[3.1579])
    longitude: float = Field(description="Degrees east, -180 to 180.", examples=[101.7116])
    name: str = Field("", description="What the place is called.", examples=["Menara KLCC"])
    address: str = Field("", description="Its address.")


class ContactOrder(Order):
    """A contact to send."""

    contact_name: str = Field(description="Name on the card.", examples=["Siti"])
    contact_phone: str = Field(max_length=64, description="Number on the card, in any form.", examples=["012-345 6789"])


class PollOrder(Order):
    """A poll to send."""

    question: str = Field(description="What is asked, up to 255 characters.", examples=["Which day suits you?"])
    options: list[str] = Field(max_length=100, description="2 to 12 different answers.", examples=[["Monday", "Tuesday"]])
    max_answer: int = Field(1, description="How many answers one person may choose.")


@router.post("/send/message", responses=QUEUED, openapi_extra=describe_body(TextOrder))
async def send_message(sending: SendingDep) -> Envelope[SentView]:
    """Send a text to one number, ahead of campaigns; 202 when its outcome is not known in time.

    Every send keeps to the device's caps and gaps, and to opt-outs. A message that WhatsApp refuses is answered 200 with the
    status `failed` and the reason.
    """
    order = await sending.read(TextOrder)
    return await sending.send(order, OneOff(phone=order.phone, text=order.message))


@router.post("/send/link", responses=QUEUED, openapi_extra=describe_body(LinkOrder))
async def send_link(sending: SendingDep) -> Envelope[SentView]:
    """Send a link below its caption."""
    order = await sending.read(LinkOrder)
    link = order.link.strip()
    if not is_web_url(link):
        raise Invalid.field("link", "must begin with https:// or http:// and name a host")
    text = f"{order.caption.rstrip()}\n{link}".strip()
    return await sending.send(order, OneOff(phone=order.phone, text=text, text_field="caption"))


@router.post(
    "/send/image",
    responses=QUEUED,
    openapi_extra=describe_body(ImageOrder, "image", "JPEG or PNG, up to 5 MB."),
    max_body_size=LARGEST_BODY,
)
async def send_image(sending: SendingDep) -> Envelope[SentView]:
    """Send an image, uploaded or fetched."""
    order = await sending.read(ImageOrder, "image")
    wanted = OneOff(phone=order.phone, message_type=MessageType.IMAGE, text=order.caption, media_url=order.image_url)
    return await _send_file(sending, order, wanted, "image")


@router.post(
    "/send/file",
    responses=QUEUED,
    openapi_extra=describe_body(FileOrder, "file", f"{ACCEPTED}, up to 32 MB."),
    max_body_size=LARGEST_BODY,
)
async def send_file(sending: SendingDep) -> Envelope[SentView]:
    """Send a file as a document, uploaded or fetched."""
    order = await sending.read(FileOrder, "file")
    wanted = OneOff(phone=order.phone, message_type=MessageType.DOCUMENT, text=order.caption, media_url=order.file_url)
    return await _send_file(sending, order, wanted, "file")


@router.post(
    "/send/video",
    responses=QUEUED,
    openapi_extra=describe_body(VideoOrder, "video", "MP4 or 3GP, up to 16 MB."),
    max_body_size=LARGEST_BODY,
)
async def send_video(sending: SendingDep) -> Envelope[SentView]:
    """Send a video, uploaded or fetched."""
    order = await sending.read(VideoOrder, "video")
    wanted = OneOff(phone=order.phone, message_type=MessageType.VIDEO, text=order.caption, media_url=order.video_url)
    return await _send_file(sending, order, wanted, "video")


@router.post(
    "/send/audio",
    responses=QUEUED,
    openapi_extra=describe_body(AudioOrder, "audio", "MP3, M4A, AAC, AMR or Ogg Opus, up to 16 MB."),
    max_body_size=LARGEST_BODY,
)
async def send_audio(sending: SendingDep) -> Envelope[SentView]:
    """Send a recording, uploaded or fetched."""
    order = await sending.read(AudioOrder, "audio")
    wanted = OneOff(phone=order.phone, message_type=MessageType.AUDIO, media_url=order.audio_url)
    return await _send_file(sending, order, wanted, "audio")


@router.post("/send/location", responses=QUEUED, openapi_extra=describe_body(LocationOrder))
async def send_location(sending: SendingDep) -> Envelope[SentView]:
    """Send a place."""
    order = await sending.read(LocationOrder)
    place = _content(Location, latitude=order.latitude, longitude=order.longitude, name=order.name, address=order.address)
    return await _send_content(sending, order, MessageType.LOCATION, place)


@router.post("/send/contact", responses=QUEUED, openapi_extra=describe_body(ContactOrder))
async def send_contact(sending: SendingDep) -> Envelope[SentView]:
    """Send somebody's name and number."""
    order = await sending.read(ContactOrder)
    try:
        phone = read_recipient(order.contact_phone, sending.user.country)
    except InvalidPhone as error:
        raise InvalidPhone(error.reason, "contact_phone") from error
    return await _send_content(sending, order, MessageType.CONTACT, _content(ContactCard, name=order.contact_name, phone=phone))


@router.post("/send/poll", responses=QUEUED, openapi_extra=describe_body(PollOrder))
async def send_poll(sending: SendingDep) -> Envelope[SentView]:
    """Send a poll."""
    order = await sending.read(PollOrder)
    poll = _content(Poll, question=order.question, options=order.options, selectable=order.max_answer)
    return await _send_content(sending, order, MessageType.POLL, poll)


async def _send_file(sending: Sending, order: Order, wanted: OneOff, field: str) -> Envelope[SentView]:
    named = field if sending.upload is not None else f"{field}_url"
    url = wanted.media_url.strip() if wanted.media_url else None
    return await sending.send(order, replace(wanted, media_url=url, text_field="caption", media_field=named))


async def _send_content(sending: Sending, order: Order, kind: MessageType, content: Content) -> Envelope[SentView]:
    return await sending.send(order, OneOff(phone=order.phone, text=content.model_dump_json(), message_type=kind))


_CALLED = {
    (Poll, "selectable"): "max_answer",
    (ContactCard, "name"): "contact_name",
    (ContactCard, "phone"): "contact_phone",
}
"""What a request calls a part of its content, where it is not the same."""


def _content(kind: type[Content], **parts: Any) -> Content:
    """What a message carries; raises `Invalid` with everything that is wrong, by the names of the request."""
    try:
        return kind(**parts)
    except ValidationError as error:
        found = error.errors()
        # Of a list with a wrong part, the part is enough.
        parents = {item["loc"][:-1] for item in found if len(item["loc"]) > 1}
        raise Invalid([_field_error(kind, item) for item in found if item["loc"] not in parents]) from error


def _field_error(kind: type[BaseModel], item: Any) -> FieldError:
    first, *rest = item["loc"]
    path = [_CALLED.get((kind, first), first), *rest]
    return FieldError(".".join(map(str, path)), str(item["msg"]).removeprefix("Value error, "))
