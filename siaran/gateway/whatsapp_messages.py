"""Messages as the WhatsApp library wants them, made from bodies."""

import re
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from PIL import Image

from siaran.gateway.interface import Body, MediaFile, MessageType, Rejected
from siaran.gateway.whatsapp_library import load_library
from siaran.message_contents import ContactCard, Location, Poll

THUMBNAIL_PIXELS = 100
"""The longer side of what a recipient sees before the image itself is there."""

_MEDIA_TYPES = {
    MessageType.IMAGE: "MediaImage",
    MessageType.VIDEO: "MediaVideo",
    MessageType.AUDIO: "MediaAudio",
    MessageType.DOCUMENT: "MediaDocument",
}
_SPECIAL_IN_VCARD = re.compile(r"([\\,;])")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that lies on WhatsApp's content server, encrypted with a key of its own; any number of messages may carry it."""

    response: Any
    mime_type: str
    file_name: str
    uploaded_at: datetime
    thumbnail: bytes = b""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """A small JPEG of an image, and the size of the image."""

    thumbnail: bytes
    width: int
    height: int


def media_kind(message_type: MessageType) -> Any:
    """The library's name for the kind of a file."""
    return getattr(load_library().media_type, _MEDIA_TYPES[message_type])


def preview_of(file: MediaFile) -> Preview | None:
    """A preview of an image; None of what is none, or cannot be read."""
    try:
        with Image.open(BytesIO(file.content)) as image:
            width, height = image.size
            image.draft("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))  # read a large JPEG at a fraction of its size
            image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
            small = BytesIO()
            image.convert("RGB").save(small, "JPEG", quality=60)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return Preview(small.getvalue(), width, height)


def build_message(body: Body, uploaded: Uploaded | None, key: bytes) -> Any:
    """The message (`waE2E.Message`) for a body and its file, with the key of the attempt as its secret.

    Raises `Rejected` (`invalid_content`) if the JSON of a location, contact or poll cannot be read, or a text is no Unicode.
    """
    contents = load_library().contents
    try:
        message = _media_message(body, uploaded) if uploaded else _plain_message(body)
    except (ValueError, TypeError) as error:
        raise Rejected("invalid_content", retryable=False, detail=str(error)) from error
    message.MergeFrom(contents.Message(messageContextInfo=contents.MessageContextInfo(messageSecret=key)))
    return message


def _plain_message(body: Body) -> Any:
    contents = load_library().contents
    match body.type:
        case MessageType.TEXT:
            return contents.Message(extendedTextMessage=contents.ExtendedTextMessage(text=body.text))
        case MessageType.LOCATION:
            place = Location.model_validate_json(body.text)
            location = contents.LocationMessage(
                degreesLatitude=place.latitude,
                degreesLongitude=place.longitude,
                name=place.name or None,
                address=place.address or None,
            )
            return contents.Message(locationMessage=location)
        case MessageType.CONTACT:
            card = ContactCard.model_validate_json(body.text)
            return contents.Message(contactMessage=contents.ContactMessage(displayName=card.name, vcard=vcard_of(card)))
        case MessageType.POLL:
            poll = Poll.model_validate_json(body.text)
            creation = contents.PollCreationMessage(
                name=poll.question,
                options=[contents.PollCreationMessage.Option(optionName=option) for option in poll.options],
                selectableOptionsCount=poll.selectable,
            )
            return contents.Message(pollCreationMessage=creation)
        case _:
            raise Rejected("media_missing", retryable=False, detail=f"a message of type {body.type} needs a file")


def vcard_of(card: ContactCard) -> str:
    """The card in the form in which WhatsApp offers to write to its number (vCard 3.0 with `waid`)."""
    name = _SPECIAL_IN_VCARD.sub(r"\\\1", card.name).replace("\n", r"\n")
    lines = [
        "BEGIN:VCARD",
        "VERSION:3.0",
        f"N:;{name};;;",
        f"FN:{name}",
        f"TEL;type=CELL;type=VOICE;waid={card.phone}:+{card.phone}",
        "END:VCARD",
    ]
    return "\n".join(lines)


def _media_message(body: Body, uploaded: Uploaded) -> Any:
    contents, response = load_library().contents, uploaded.response
    file: dict[str, Any] = {
        "URL": response.url,
        "directPath": response.DirectPath,
        "mediaKey": response.MediaKey,
        "mediaKeyTimestamp": int(uploaded.uploaded_at.timestamp()),
        "fileSHA256": response.FileSHA256,
        "fileEncSHA256": response.FileEncSHA256,
        "fileLength": response.FileLength,
        "mimetype": uploaded.mime_type,
    }
    caption = body.text or None
    match body.type:
        case MessageType.IMAGE:
            looks: dict[str, Any] = {}
            if uploaded.thumbnail:
                looks = {"JPEGThumbnail": uploaded.thumbnail, "width": uploaded.width, "height": uploaded.height}
            return contents.Message(imageMessage=contents.ImageMessage(caption=caption, **looks, **file))
        case MessageType.VIDEO:
            return contents.Message(videoMessage=contents.VideoMessage(caption=caption, **file))
        case MessageType.AUDIO:
            if uploaded.mime_type == "audio/ogg":
                file["mimetype"] = "audio/ogg; codecs=opus"  # the only one that phones play, and only under this name
            return contents.Message(audioMessage=contents.AudioMessage(PTT=False, **file))
        case _:
            name = uploaded.file_name
            document = contents.DocumentMessage(title=name, fileName=name, caption=caption, **file)
            message = contents.Message(documentMessage=document)
            if caption is None:
                return message
            # Phones show the caption of a document only in this wrapping.
            return contents.Message(documentWithCaptionMessage=contents.FutureProofMessage(message=message))
