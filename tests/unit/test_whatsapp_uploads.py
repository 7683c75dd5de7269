"""Uploads that hang."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from siaran.gateway import whatsapp_uploads
from siaran.gateway.interface import Body, DeviceRef, MediaFile, MessageType, NotConnected, Rejected
from siaran.gateway.whatsapp_client import Client
from siaran.gateway.whatsapp_gate import Gate
from siaran.gateway.whatsapp_uploads import GIVEN_UP_AFTER, Uploads
from tests.factories import NOW


async def test_an_upload_that_hangs_is_waited_for_first_and_made_anew_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatsapp_uploads, "UPLOAD_SECONDS", 0.02)
    now, reads = NOW, 0
    end = asyncio.Event()

    async def read() -> MediaFile:
        nonlocal reads
        reads += 1
        await end.wait()
        raise Rejected("media_missing", retryable=False)

    device = DeviceRef(uuid4(), "6281:1@s.whatsapp.net", 1)
    client = Client(
        device,
        Path("none.db"),
        app_os="Siaran",
        gate=Gate(),
        clock=lambda: now,
        report=lambda _: None,
        take=lambda _client, _event: None,
    )
    uploads, body = Uploads(lambda: now), Body(MessageType.DOCUMENT, media_url="media://1", read_media=read)
    began = []
    for _ in range(4):
        with pytest.raises(NotConnected):
            await uploads.get(client, body)
        began.append(reads)
        now += GIVEN_UP_AFTER / 2 + timedelta(seconds=1)

    end.set()
    with pytest.raises(Rejected):
        await uploads.get(client, body)
    assert began == [1, 1, 2, 2]
