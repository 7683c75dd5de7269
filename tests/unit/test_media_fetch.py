"""Where a fetch connects to: to the addresses that were checked, whatever the name says afterwards."""

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from siaran.media_fetch import fetch_media
from siaran.public_addresses import ForbiddenTarget
from tests.media_files import WebServer, open_web_server, png

HOST = "promo.example"


class Resolver:
    """Answers for one name with one list of addresses after the other, as a name server under someone's control may."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        found = self.answers.pop(0) if host == HOST else [host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    """A web server on 127.0.0.1."""
    async with open_web_server() as web:
        yield web


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> Resolver:
    """Put the machine's name server out of use."""
    resolver = Resolver(*answers)
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    return resolver


async def test_a_name_is_resolved_once_and_exactly_that_address_is_asked(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    web.serve("/a.png", png())
    resolver = resolve(monkeypatch, ["127.0.0.1"], ["192.0.2.1"])
    found = await fetch_media(f"http://{HOST}:{web.port}/a.png", allow_private=True)
    assert found.content == png()
    assert resolver.asked.count(HOST) == 1
    assert web.hosts == [f"{HOST}:{web.port}"]


async def test_the_next_address_is_asked_where_one_refuses(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    web.serve("/a.png", png())
    resolve(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    assert (await fetch_media(f"http://{HOST}:{web.port}/a.png", allow_private=True)).content == png()


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"], ["8.8.8.8", "127.0.0.1"]])
async def test_one_private_address_among_those_of_a_name_is_too_many(addresses: list[str], monkeypatch: pytest.MonkeyPatch):
    resolve(monkeypatch, addresses)
    with pytest.raises(ForbiddenTarget, match="public internet"):
        await fetch_media(f"http://{HOST}/a.png")


async def test_every_redirect_is_checked_anew(web: WebServer, monkeypatch: pytest.MonkeyPatch):
    web.serve("/a.png", status="302 Found", Location=f"http://{HOST}/b.png")
    resolve(monkeypatch, ["127.0.0.1"], [])
    with pytest.raises(ForbiddenTarget, match="has no address"):
        await fetch_media(f"http://{HOST}:{web.port}/a.png", allow_private=True)
