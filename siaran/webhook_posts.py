"""Posting to an address that a user gave: bounded in time and size, never to a private network, redirects not followed."""

import asyncio
import hashlib
import hmac
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import lru_cache

import httpx

from siaran.public_addresses import ForbiddenTarget, Target, find_target, is_web_url
from siaran.version import VERSION
from siaran.webhook_retries import Answer

WHOLE_SECONDS = 10.0
"""For all of it: the address, the connection, and the answer's status."""
CONNECT_SECONDS = 4.0
"""For one address of a host, before the next is tried."""
READ_SECONDS = 2.0
"""For the beginning of the answer's content, which nothing depends on."""
KEPT_OF_ANSWER = 1_000
"""Bytes of it that are read and kept."""
SIDE_BY_SIDE = 8
"""Requests to one address at a time."""

Headers = Mapping[str, str]


def sign(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def headers_of(event: str, delivery_id: int, body: bytes, secret: str | None) -> Headers:
    """The headers of a delivery; without a secret it is not signed."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Siaran/{VERSION}",
        "Accept-Encoding": "identity",
        "X-Siaran-Event": event,
        "X-Siaran-Delivery": str(delivery_id),
    }
    return headers if secret is None else {**headers, "X-Hub-Signature-256": sign(secret, body)}


@lru_cache
def _certificates() -> ssl.SSLContext:
    """Loading them takes longer than many a delivery."""
    return httpx.create_ssl_context(trust_env=False)


class Receiver:
    """One address for as long as a few deliveries take: looked up once, and its connections are used again.

    A receiver is used for one URL only, so that no connection is ever used for another host at the same IP address.
    """

    def __init__(self, url: str, client: httpx.AsyncClient, *, allow_private: bool) -> None:
        self._url = httpx.URL(url) if is_web_url(url) else None
        self._client = client
        self._allow_private = allow_private
        self._lookup: asyncio.Task[Target] | None = None

    async def post(self, body: bytes, headers: Headers) -> Answer:
        """Send it once; never raises because of what the other side does."""
        began = time.monotonic()
        status_code, error, text, retry_after = None, "", "", ""
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                response = await self._send(body, headers)
        except TimeoutError:
            error = f"no answer within {WHOLE_SECONDS:.0f} s"
        except ForbiddenTarget as refused:
            error = refused.detail
        except (httpx.TimeoutException, httpx.ConnectError):
            error = "cannot be reached"
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError):
            error = "broke off before it answered"
        else:
            status_code, retry_after = response.status_code, response.headers.get("retry-after", "")
            text = await _beginning(response)
        return Answer(status_code, error, text, timedelta(seconds=time.monotonic() - began), retry_after)

    async def close(self) -> None:
        """Leave no lookup behind."""
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.gather(self._lookup, return_exceptions=True)

    async def _send(self, body: bytes, headers: Headers) -> httpx.Response:
        """Ask the first address of the host that accepts a connection; certificates are still those of the host's name."""
        if self._url is None:
            raise ForbiddenTarget("is no http:// or https:// address")
        url, target = self._url, await self._target(self._url)
        for position, address in enumerate(target.addresses, start=1):
            request = self._client.build_request(
                "POST",
                url.copy_with(host=address),
                content=body,
                headers={**headers, "Host": url.netloc.decode("ascii")},
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                return await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if position == len(target.addresses):
                    raise
        raise ForbiddenTarget("has no address")

    async def _target(self, url: httpx.URL) -> Target:
        """The checked addresses, looked up once however many deliveries wait for them."""
        if self._lookup is None:
            host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
            self._lookup = asyncio.create_task(find_target(host, port, allow_private=self._allow_private))
        return await asyncio.shield(self._lookup)


@asynccontextmanager
async def open_receiver(url: str, *, allow_private: bool) -> AsyncIterator[Receiver]:
    """A receiver whose connections are closed at the end; proxies of the environment are not used."""
    timeout = httpx.Timeout(WHOLE_SECONDS, connect=CONNECT_SECONDS)
    limits = httpx.Limits(max_connections=SIDE_BY_SIDE, max_keepalive_connections=SIDE_BY_SIDE)
    async with httpx.AsyncClient(
        timeout=timeout, limits=limits, verify=_certificates(), trust_env=False, follow_redirects=False
    ) as client:
        receiver = Receiver(url, client, allow_private=allow_private)
        try:
            yield receiver
        finally:
            await receiver.close()


async def _beginning(response: httpx.Response) -> str:
    """What the answer begins with; whatever is wrong with it, the status has been given."""
    found = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for piece in response.aiter_raw():
                found += piece
                if len(found) > KEPT_OF_ANSWER:
                    break
    except (TimeoutError, httpx.HTTPError, httpx.StreamError, OSError):
        pass
    finally:
        await response.aclose()
    return bytes(found[:KEPT_OF_ANSWER]).decode(errors="replace").replace("\0", "")
