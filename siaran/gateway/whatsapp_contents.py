"""What the contents of a received message (`waE2E.Message`) say: its text and its file."""

from dataclasses import dataclass
from typing import Any

from siaran.gateway.interface import ReceivedMedia
from siaran.gateway.whatsapp_library import load_library

_WRAPPERS = (
    "deviceSentMessage",
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "lottieStickerMessage",
    "groupMentionedMessage",
    "botInvokeMessage",
    "associatedChildMessage",
)
_DEEPEST = 5

_MEDIA = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}

_WITHOUT_WORDS = frozenset(
    {
        "messageContextInfo",
        "senderKeyDistributionMessage",
        "fastRatchetKeySenderKeyDistributionMessage",
        "protocolMessage",
        "reactionMessage",
        "encReactionMessage",
        "editedMessage",
        "secretEncryptedMessage",
        "pollUpdateMessage",
        "pollAddOptionMessage",
        "keepInChatMessage",
        "pinInChatMessage",
        "encEventResponseMessage",
        "stickerSyncRmrMessage",
        "messageHistoryBundle",
        "messageHistoryNotice",
        "groupRootKeyShare",
        "rootSecretDistributeMessage",
        "placeholderMessage",
        "albumMessage",
        "callLogMesssage",
        "call",
        "chat",
    }
)
"""What travels as a message and is none: keys, edits, deletions, reactions, votes. Whatever is not listed is a message."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The text or caption of a message, and its file."""

    text: str
    media: ReceivedMedia | None


def read_contents(message: Any) -> Contents | None:
    """What a message says, whatever it is wrapped in; None of what is no message to be read."""
    message = _unwrap(message)
    fields = {field.name: value for field, value in message.ListFields()}
    if not fields.keys() - _WITHOUT_WORDS or "protocolMessage" in fields:
        return None
    for name, kind in _MEDIA.items():
        if name in fields:
            return Contents(getattr(fields[name], "caption", ""), _read_media(name, kind, fields[name]))
    return Contents(_read_text(fields), None)


def _unwrap(message: Any) -> Any:
    for _ in range(_DEEPEST):
        wrapper = next((name for name in _WRAPPERS if message.HasField(name)), None)
        if wrapper is None:
            break
        message = getattr(message, wrapper).message
    return message


def _read_text(fields: dict[str, Any]) -> str:
    """The words of a message without a file; none of a kind that has none, such as a call to be paid."""
    for name, value in fields.items():
        match name:
            case "conversation":
                return str(value)
            case "extendedTextMessage":
                return str(value.text)
            case "buttonsResponseMessage" | "templateButtonReplyMessage":
                return str(value.selectedDisplayText)
            case "listResponseMessage":
                return str(value.title)
            case "locationMessage" | "liveLocationMessage":
                return str(getattr(value, "name", "") or getattr(value, "caption", ""))
            case "contactMessage" | "contactsArrayMessage":
                return str(value.displayName)
            case "pollCreationMessage" | "pollCreationMessageV2" | "pollCreationMessageV3" | "pollCreationMessageV5":
                return str(value.name)
            case _:
                continue
    return ""


def _read_media(name: str, kind: str, part: Any) -> ReceivedMedia:
    """The file, with all that is needed to download it and nothing else of the message."""
    reference = load_library().contents.Message()
    kept = reference.videoMessage if name == "ptvMessage" else getattr(reference, name)
    # Not the URL: whoever sends could have it lead anywhere.
    for field in ("directPath", "mediaKey", "fileSHA256", "fileEncSHA256", "fileLength", "mimetype"):
        if part.HasField(field):
            setattr(kept, field, getattr(part, field))
    file_name = (part.fileName or part.title) if name == "documentMessage" else ""
    return ReceivedMedia(kind, part.mimetype, file_name, part.fileLength, reference.SerializeToString())
