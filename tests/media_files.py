"""Files that tests upload, made here byte by byte or by the library that checks them, and a server that hands them out."""

import asyncio
import struct
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from httpx import AsyncClient
from PIL import Image


def png(colour: str = "red", size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture of one colour."""
    return _image("PNG", colour, size)


def jpeg(colour: str = "red", size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of one colour."""
    return _image("JPEG", colour, size)


def _image(form: str, colour: str, size: tuple[int, int]) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


def mp4(brand: bytes = b"isom", padding: int = 0) -> bytes:
    """The boxes of a video without a picture in it."""
    return b"".join(
        [
            struct.pack(">I", 16) + b"ftyp" + brand + b"\0\0\0\0",
            struct.pack(">I", 8) + b"moov",
            struct.pack(">I", 8 + padding) + b"mdat" + bytes(padding),
        ]
    )


def pdf(padding: int = 0) -> bytes:
    """The beginning and the end of a document."""
    return b"%PDF-1.7\n" + b" " * padding + b"\n%%EOF\n"


def docx(folder: str = "word") -> bytes:
    """The folders of an office document."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(f"{folder}/document.xml", "<document/>")
    return out.getvalue()


async def upload(client: AsyncClient, content: bytes | None = None, name: str = "promo.png", declared: str = "") -> str:
    """Upload a file, a red picture unless told otherwise; returns its reference."""
    file = (name, png() if content is None else content, declared or "application/octet-stream")
    answer = await client.post("/api/media", files={"file": file})
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["results"]["url"]
    return url


@dataclass(slots=True)
class WebServer:
    """A server on loopback that answers as it is told, and remembers what it was asked."""

    port: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    held: dict[str, asyncio.Event] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> str:
        """Answer a path from now on; returns its URL."""
        lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.answers[path] = _head(status, lines) + body
        return self.url + path

    @asynccontextmanager
    async def holding(self, path: str) -> AsyncIterator[None]:
        """Leave whoever asks for a path without an answer for as long."""
        self.held[path] = asyncio.Event()
        yield
        self.held.pop(path).set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and hang up."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.asked.append(path)
        self.hosts += [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("host:")]
        if path in self.held:
            await self.held[path].wait()
        writer.write(self.answers.get(path) or _head("404 Not Found", {"Content-Length": "0"}))
        await writer.drain()
        writer.close()


def _head(status: str, headers: Mapping[str, Any]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def open_web_server() -> AsyncIterator[WebServer]:
    """A server on a free port of loopback."""
    web = WebServer()
    server = await asyncio.start_server(web.answer, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    async with server:
        yield web
