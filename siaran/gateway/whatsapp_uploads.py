"""Files on WhatsApp's content server: each is uploaded once for all the messages of a device that carry it."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from siaran.clock import Clock
from siaran.gateway.interface import Body, MessageType, NotConnected, Rejected, TransportError
from siaran.gateway.whatsapp_client import Client
from siaran.gateway.whatsapp_errors import upload_error
from siaran.gateway.whatsapp_library import load_library
from siaran.gateway.whatsapp_messages import Uploaded, media_kind, preview_of

UPLOAD_SECONDS = 60.0
KEPT_FOR = timedelta(hours=12)
"""WhatsApp deletes uploads after some weeks; nobody says after how many."""

GIVEN_UP_AFTER = timedelta(minutes=5)
"""When an upload that has not ended is left to itself and made anew: nothing bounds it in the library."""

MOST = 256

_Key = tuple[UUID, str, MessageType]


@dataclass(frozen=True, slots=True)
class _Upload:
    """An upload that is under way or has ended."""

    task: asyncio.Task[Uploaded]
    began_at: datetime


class Uploads:
    """The newest uploads of a process's devices, without the files themselves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._uploads: OrderedDict[_Key, _Upload] = OrderedDict()

    async def get(self, client: Client, body: Body) -> Uploaded:
        """The upload of a body's file, made now if there is none yet, in `UPLOAD_SECONDS` at most.

        Raises `Rejected`, `NotConnected` or `LoggedOut`; an upload that takes longer goes on for the next message.
        """
        if body.media_url is None or body.read_media is None:
            raise Rejected("media_missing", retryable=False)
        key = client.device.id, body.media_url, body.type
        upload = self._uploads.get(key)
        if upload is None or self._is_stale(upload):
            upload = self._uploads[key] = _Upload(asyncio.create_task(self._upload(client, body)), self._clock())
            upload.task.add_done_callback(_retrieve)
        task = upload.task
        self._uploads.move_to_end(key)
        while len(self._uploads) > MOST:
            self._uploads.popitem(last=False)
        await asyncio.wait({task}, timeout=UPLOAD_SECONDS)
        if not task.done():
            raise NotConnected("the upload takes long")
        return task.result()

    def forget(self, client: Client, body: Body) -> None:
        """Upload a body's file anew for the next message: WhatsApp has refused one that carried it."""
        if body.media_url is not None:
            self._uploads.pop((client.device.id, body.media_url, body.type), None)

    def _is_stale(self, upload: _Upload) -> bool:
        task = upload.task
        if not task.done():
            return self._clock() - upload.began_at > GIVEN_UP_AFTER
        failed = task.cancelled() or task.exception() is not None
        return failed or self._clock() - task.result().uploaded_at > KEPT_FOR

    async def _upload(self, client: Client, body: Body) -> Uploaded:
        try:
            return await self._read_and_upload(client, body)
        except TransportError:
            raise
        except load_library().error as error:
            raise upload_error(str(error)) from error
        except Exception as error:  # whatever it was, nothing has been sent to the recipient
            raise NotConnected(f"the file was not uploaded: {type(error).__name__}") from error

    async def _read_and_upload(self, client: Client, body: Body) -> Uploaded:
        if body.read_media is None:
            raise Rejected("media_missing", retryable=False)
        file = await body.read_media()
        looks = await asyncio.to_thread(preview_of, file) if body.type is MessageType.IMAGE else None
        kind = media_kind(body.type)
        response = await client.begin(lambda library: library.upload(file.content, kind))
        return Uploaded(
            response=response,
            mime_type=file.mime_type,
            file_name=file.file_name,
            uploaded_at=self._clock(),
            thumbnail=looks.thumbnail if looks else b"",
            width=looks.width if looks else 0,
            height=looks.height if looks else 0,
        )


def _retrieve(task: "asyncio.Task[Uploaded]") -> None:
    if not task.cancelled():
        task.exception()  # nobody may wait for it any more
