"""Media that messages carry: upload, fetch by URL, list, read, delete."""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from api.auth import UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from siaran import media as stored
from siaran.errors import Invalid
from siaran.media_fetch import keep_file, keep_from_url
from siaran.media_types import ACCEPTED, LARGEST, MAX_BYTES, MEGABYTE, MediaKind, kind_of
from siaran.models import Media
from siaran.public_addresses import MAX_URL, is_web_url

router = APIRouter(tags=["media"])

MediaId = Annotated[UUID, Path(description="Id of the file.")]

LIMITS = ", ".join(f"{kind}s up to {limit // MEGABYTE} MB" for kind, limit in MAX_BYTES.items())
INTAKE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"{ACCEPTED}; {LIMITS}.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "The file."}},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["url"],
                    "properties": {"url": {"type": "string", "description": "Where to fetch it from, once."}},
                }
            },
        },
    }
}
"""Describes the two kinds of body, which FastAPI does not see: it would receive a file before asking who sends it."""

UNTRUSTED = "default-src 'none'; sandbox; style-src 'unsafe-inline'; img-src 'self'; media-src 'self'"
"""Whatever a file may hold, a browser that opens it runs nothing of it."""


class MediaView(BaseModel):
    """A file of yours."""

    id: UUID
    url: str = Field(description="What to give as `image_url`, and where to read the file.", examples=["/api/media/…"])
    kind: MediaKind = Field(description="What it goes out as unless told otherwise.")
    mime_type: str
    size_bytes: int
    file_name: str
    source_url: str | None = Field(description="Where it was fetched from, if it was.")
    created_at: datetime

    @classmethod
    def of(cls, media: Media) -> "MediaView":
        """A stored file."""
        return cls(
            id=media.id,
            url=stored.reference_to(media.id),
            kind=kind_of(media.mime_type),
            mime_type=media.mime_type,
            size_bytes=media.size_bytes,
            file_name=media.file_name,
            source_url=media.source_url,
            created_at=media.created_at,
        )


class MediaUrl(BaseModel):
    """A file to fetch."""

    url: str = Field(max_length=MAX_URL)


class DeletedMedia(BaseModel):
    """What was deleted."""

    id: UUID


@router.post("/api/media", status_code=201, openapi_extra=INTAKE, max_body_size=LARGEST + MEGABYTE)
async def add_media(request: Request, user: UserDep, context: ContextDep) -> Envelope[MediaView]:
    """Upload a file as multipart/form-data, or have it fetched once from a URL; the same content is kept once."""
    if request.headers.get("content-type", "").startswith("application/json"):
        media = await _fetch(request, user.id, context)
    else:
        media = await _receive(request, user.id, context)
    return success(MediaView.of(media), "File stored")


async def _fetch(request: Request, user_id: UUID, context: Context) -> Media:
    try:
        url = MediaUrl.model_validate_json(await request.body()).url.strip()
    except ValidationError as error:
        raise Invalid.field("url", "is required: the address of the file, as text") from error
    if not is_web_url(url):
        raise Invalid.field("url", "must begin with https:// or http:// and name a host, without a password")
    return await keep_from_url(
        context.sessions,
        user_id,
        url,
        field="url",
        allow_private=context.settings.allow_private_targets,
        clock=context.clock,
    )


async def _receive(request: Request, user_id: UUID, context: Context) -> Media:
    """Take in an upload piece by piece; it lies on disk until it is complete."""
    try:
        async with request.form(max_files=1, max_fields=10) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Invalid.field("file", "is missing: send the file as multipart/form-data, or its url as JSON")
            if (file.size or 0) > LARGEST:
                raise Invalid.field("file", f"is too large: {LIMITS}")
            content = await file.read()
            name, declared = file.filename or "", (file.content_type or "").lower()
    except ClientDisconnect as error:
        raise Invalid.field("file", "was not sent to its end") from error
    return await keep_file(
        context.sessions, user_id, content, file_name=name, declared=declared, field="file", clock=context.clock
    )


@router.get("/api/media")
async def list_media(user: UserDep, context: ContextDep, paging: PagingDep) -> ListEnvelope[MediaView]:
    """Your files, newest first."""
    async with context.sessions.begin() as session:
        rows = await stored.list_media(session, user.id, after=paging.after(tuple[datetime, UUID]), limit=paging.fetch)
    page, next_cursor = paging.cut(rows, lambda media: (media.created_at, media.id))
    return listed([MediaView.of(media) for media in page], next_cursor, "Media")


@router.get("/api/media/{media_id}", response_class=Response, responses={200: {"content": {"*/*": {}}}})
async def read_media(media_id: MediaId, request: Request, user: UserDep, context: ContextDep) -> Response:
    """The file itself."""
    async with context.sessions.begin() as session:
        media = await stored.get_media(session, user.id, media_id)
        headers = {
            "ETag": f'"{media.sha256.hex()}"',
            "Cache-Control": "private, max-age=86400, immutable",
            "Content-Security-Policy": UNTRUSTED,
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": _disposition(media),
        }
        asked = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if headers["ETag"] in asked:
            return Response(status_code=304, headers=headers)
        found = await stored.media_content(session, user.id, stored.reference_to(media_id))
    return Response(found.content, media_type=found.mime_type, headers=headers)


def _disposition(media: Media) -> str:
    """Images and videos are shown, documents are saved."""
    how = "attachment" if kind_of(media.mime_type) is MediaKind.DOCUMENT else "inline"
    return f"{how}; filename*=UTF-8''{quote(media.file_name, safe='')}"


@router.delete("/api/media/{media_id}")
async def delete_media(media_id: MediaId, user: UserDep, context: ContextDep) -> Envelope[DeletedMedia]:
    """Remove a file that no campaign, step or message uses which is still to be sent."""
    async with context.sessions.begin() as session:
        await stored.delete_media(session, user.id, media_id)
    return success(DeletedMedia(id=media_id), "File deleted")
