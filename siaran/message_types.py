"""What a message goes out as, by what it carries."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import Invalid
from siaran.media import find_media, referenced_id
from siaran.media_types import MediaKind, kind_of

TEXT = "text"


def kind_of_attachment(mime_type: str) -> MediaKind:
    """What campaigns and steps send a file as unless told otherwise: audio as a document."""
    kind = kind_of(mime_type)
    return MediaKind.DOCUMENT if kind is MediaKind.AUDIO else kind


async def fit_message_type(
    session: AsyncSession, user_id: UUID, media_url: str | None, *, present: str, wanted: str | None, is_new: bool
) -> str:
    """The type that was asked for where it fits the media, else the one that follows from the media, or from having none.

    `is_new` says that the media is not the one that `present` was found for. A URL that has not been fetched yet may hold
    anything. Raises `Invalid` for `message_type`, or for `image_url` where it names no file of the user's.
    """
    asked = wanted if wanted not in {present, TEXT} else None
    if media_url is None:
        if asked:
            raise Invalid.field("message_type", f"{asked} needs an image_url")
        return TEXT
    held: MediaKind | None = None
    if referenced_id(media_url) is not None and (is_new or asked):
        media = await find_media(session, user_id, media_url)
        held = kind_of_attachment(media.mime_type)
        if asked and asked not in {held, MediaKind.DOCUMENT}:
            raise Invalid.field("message_type", f"cannot be {asked}: image_url holds a {held} ({media.mime_type})")
    follows = held if is_new else None
    kept = asked or follows or present
    return "image" if kept == TEXT else str(kept)
