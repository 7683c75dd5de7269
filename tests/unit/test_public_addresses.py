"""Which URLs and addresses may be called for a user."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from siaran.public_addresses import ForbiddenTarget, find_target, is_public, is_web_url

PRIVATE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%1",
    "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::1", "100::1",
    "not an address", "",
]  # fmt: skip

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]  # fmt: skip


def test_addresses_of_this_network_are_not_public():
    assert [address for address in PRIVATE if is_public(address)] == []


def test_addresses_of_the_internet_are_public():
    assert [address for address in PUBLIC if not is_public(address)] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "127.1", "::1", "::ffff:127.0.0.1"])
async def test_however_loopback_is_written_it_is_refused(host: str):
    with pytest.raises(ForbiddenTarget):
        await find_target(host, 80, allow_private=False)


async def test_hosts_whose_name_servers_hang_keep_no_other_host_waiting(monkeypatch: pytest.MonkeyPatch):
    over = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).startswith("slow"):
            over.wait(30)
        return look_up(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    waiting = [asyncio.create_task(find_target(f"slow{number}.invalid", 80, allow_private=True)) for number in range(40)]
    try:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
            assert (await find_target("localhost", 80, allow_private=True)).addresses
    finally:
        over.set()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_setting_allows_private_addresses():
    target = await find_target("127.0.0.1", 8080, allow_private=True)
    assert (target.host, target.port, target.addresses) == ("127.0.0.1", 8080, ("127.0.0.1",))


async def test_a_host_that_does_not_exist_is_refused_with_its_name():
    with pytest.raises(ForbiddenTarget, match=r"nowhere\.invalid"):
        await find_target("nowhere.invalid", 80, allow_private=True)


def test_only_web_addresses_without_a_password_are_urls():
    good = ["http://a.example", "https://a.example:8443/b.jpg?x=1", "https://[2606:4700::1]/a"]
    bad = [
        "", "a.example/b.jpg", "ftp://a.example", "file:///etc/passwd", "https://", "https:///a", "gopher://a",
        "https://user:secret@a.example", "https://user@a.example", "https://a.example:99999/", "https://a.example:0/",
        "https://a b.example", "https://a.example/\n", "https://[::1",
        "https://999.999.999.999/", "https://☃.example/", "https://[v1.a]/", "https://a.example/" + "x" * 2048,
    ]  # fmt: skip
    assert [url for url in good if not is_web_url(url)] == []
    assert [url for url in bad if is_web_url(url)] == []
