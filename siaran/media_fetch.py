"""Fetching a file that a user named by its URL: once, from the public internet only, bounded in time and size."""

import asyncio
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote
from uuid import UUID
from weakref import WeakValueDictionary

import httpx

from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.errors import Invalid
from siaran.media import NewMedia, keep_media
from siaran.media_types import ACCEPTED, LARGEST, MEGABYTE, UnusableMedia, detect_media
from siaran.models import Media
from siaran.public_addresses import ForbiddenTarget, find_target, is_web_url

MAX_REDIRECTS = 5
WHOLE_SECONDS = 30.0
"""For all of it: redirects, addresses that do not answer, and the content."""
STEP_SECONDS = 10.0
"""For one connection, and for each pause between two pieces of the content."""
CONNECT_SECONDS = 5.0
"""For one address of a host, before the next is tried."""

_CHECKS = asyncio.Semaphore(4)
"""Bounds the files that a process checks and stores at a time."""
_FETCHES = asyncio.Semaphore(16)
"""Bounds the files that a process fetches at a time."""
_FETCHES_OF: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()
"""The same for each user, so that nobody's slow servers keep the others waiting."""
_FETCHES_OF_ONE = 2

_HEADERS = {"Accept": "image/*, video/*, application/pdf, */*;q=0.5", "Accept-Encoding": "identity", "User-Agent": "Siaran"}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL led to: the content, and what its sender called and declared it."""

    content: bytes
    file_name: str
    declared: str


async def keep_file(
    sessions: SessionMaker, user_id: UUID, content: bytes, *, file_name: str, declared: str, field: str, clock: Clock
) -> Media:
    """Check and store a file that was uploaded in `field`; raises `Invalid` for it."""
    return await _keep(sessions, user_id, Fetched(content, file_name, declared), field=field, clock=clock)


async def keep_from_url(
    sessions: SessionMaker, user_id: UUID, url: str, *, field: str, allow_private: bool, clock: Clock
) -> Media:
    """Fetch a file once, check and store it; raises `Invalid` for `field`. No transaction is open while it is fetched."""
    turn = _FETCHES_OF.setdefault(user_id, asyncio.Semaphore(_FETCHES_OF_ONE))
    async with turn, _FETCHES:
        try:
            fetched = await fetch_media(url, allow_private=allow_private)
        except (ForbiddenTarget, UnusableMedia) as error:
            raise Invalid.field(field, error.detail) from error
        return await _keep(sessions, user_id, fetched, source_url=url, field=field, clock=clock)


async def _keep(
    sessions: SessionMaker, user_id: UUID, found: Fetched, *, source_url: str | None = None, field: str, clock: Clock
) -> Media:
    async with _CHECKS:
        try:
            kind = await asyncio.to_thread(detect_media, found.content, found.file_name, found.declared)
        except UnusableMedia as error:
            raise Invalid.field(field, error.detail) from error
        async with sessions.begin() as session:
            return await keep_media(session, user_id, NewMedia(found.content, kind, found.file_name, source_url), clock())


async def fetch_media(url: str, *, allow_private: bool = False, max_bytes: int = LARGEST) -> Fetched:
    """Fetch a file, following up to `MAX_REDIRECTS` redirects, each checked as the first URL is.

    Every host is resolved once, all its addresses must be public unless `allow_private`, and the connection goes to one of
    just these; proxies of the environment are not used. Raises `ForbiddenTarget` or `UnusableMedia`, whose details say why.
    """
    try:
        async with asyncio.timeout(WHOLE_SECONDS):
            return await _follow(url, allow_private=allow_private, max_bytes=max_bytes)
    except TimeoutError as error:
        raise UnusableMedia(f"could not be fetched within {WHOLE_SECONDS:.0f} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        raise UnusableMedia("could not be fetched: its server cannot be reached or breaks off") from error


async def _follow(url: str, *, allow_private: bool, max_bytes: int) -> Fetched:
    limits = httpx.Limits(max_keepalive_connections=0)
    timeout = httpx.Timeout(STEP_SECONDS, connect=CONNECT_SECONDS)
    async with httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False) as client:
        for _ in range(MAX_REDIRECTS + 1):
            if not is_web_url(url):
                raise ForbiddenTarget("only http:// and https:// addresses without a password are fetched")
            response = await _ask(client, httpx.URL(url), allow_private=allow_private)
            try:
                if not response.has_redirect_location:
                    return await _read(response, url, max_bytes)
                url = str(httpx.URL(url).join(response.headers["location"]))
            finally:
                await response.aclose()
    raise UnusableMedia(f"is behind more than {MAX_REDIRECTS} redirects")


async def _ask(client: httpx.AsyncClient, url: httpx.URL, *, allow_private: bool) -> httpx.Response:
    """Ask the first address of the URL's host that answers; certificates are still those of the host's name."""
    host = url.raw_host.decode("ascii")
    target = await find_target(host, url.port or (443 if url.scheme == "https" else 80), allow_private=allow_private)
    for position, address in enumerate(target.addresses, start=1):
        request = client.build_request("GET", url.copy_with(host=address), headers={**_HEADERS, "Host": _host_header(url)})
        request.extensions = {**request.extensions, "sni_hostname": host}
        try:
            return await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if position == len(target.addresses):
                raise
    raise UnusableMedia("could not be fetched")


def _host_header(url: httpx.URL) -> str:
    return url.netloc.decode("ascii")


async def _read(response: httpx.Response, url: str, max_bytes: int) -> Fetched:
    if response.status_code != 200:
        raise UnusableMedia(f"could not be fetched: its server answered {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnusableMedia("could not be fetched: its server compresses it, which was not asked for")
    declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared in {"text/html", "application/xhtml+xml"}:
        raise UnusableMedia(f"is a web page, no {ACCEPTED}")
    too_large = f"is too large: more than {max_bytes // MEGABYTE} MB"
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise UnusableMedia(too_large)
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > max_bytes:
            raise UnusableMedia(too_large)
    return Fetched(bytes(content), unquote(PurePosixPath(httpx.URL(url).path).name), declared)
