"""Which addresses a URL that a user gave may lead to: hosts on the public internet, never this network's own."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import httpx

from siaran.errors import SiaranError

MAX_URL = 2_048

_LOOKUPS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="lookup")
"""Threads start when they are needed. A name server that hangs holds one for seconds, and nothing but lookups waits for it."""

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Addresses under which networks without IPv4 reach it; the last four bytes are the real one."""

_TUNNELS = (IPv6Network("2001::/32"), IPv6Network("2002::/16"), IPv6Network("64:ff9b:1::/48"))
"""Addresses behind which another one hides."""


class ForbiddenTarget(SiaranError):
    """The URL leads to a place that may not be called."""

    code = "FORBIDDEN_TARGET"


class UnknownHost(ForbiddenTarget):
    """The URL's host cannot be found."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host and port of a URL, and the checked addresses that may be connected to: those and no others."""

    host: str
    port: int
    addresses: tuple[str, ...]


def is_web_url(text: str) -> bool:
    """Whether it is an `http` or `https` URL that names a host, holds no password and is not overlong."""
    if len(text) > MAX_URL or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
        httpx.URL(text)  # what will call it is stricter about hosts
    except (ValueError, httpx.InvalidURL):
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None and port != 0


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet.

    Private, loopback, link-local, shared (CGNAT), multicast, reserved and unspecified addresses are not, also where IPv6 only
    wraps them.
    """
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address in _TRANSLATED:
            return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.is_site_local or address.scope_id is not None or any(address in network for network in _TUNNELS):
            return False
    refused = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    return address.is_global and not (refused or address.is_reserved or address.is_unspecified)


async def find_target(host: str, port: int, *, allow_private: bool) -> Target:
    """Resolve a host once; the caller connects to one of the addresses found and does not resolve it again.

    Raises `ForbiddenTarget` when an address of it is not public, unless `allow_private`; `UnknownHost` when it has none.
    """
    try:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_LOOKUPS, look_up)
    except (OSError, UnicodeError) as error:
        raise UnknownHost(f"the host {host} cannot be found") from error
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise UnknownHost(f"the host {host} has no address")
    if not allow_private and not all(is_public(address) for address in addresses):
        raise ForbiddenTarget(f"the host {host} leads to an address that is not on the public internet")
    return Target(host, port, addresses)
