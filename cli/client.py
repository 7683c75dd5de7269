"""The REST API as the command line uses it: answers unwrapped, problems turned into errors with an exit code."""

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx

from cli.errors import CommandError, ExitCode, RefusedField, Unreachable
from cli.logins import Login

PATIENCE_SECONDS = 30.0
PAGE = 500

EXIT_CODES = {
    400: ExitCode.USAGE,
    401: ExitCode.NOT_LOGGED_IN,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.USAGE,
    422: ExitCode.USAGE,
}
AWAY = {502, 503, 504}

Parameters = Mapping[str, str | int | bool | None]


class Client:
    """One server and one login. Every method raises `CommandError`, `Unreachable` where trying again may help."""

    def __init__(self, login: Login) -> None:
        self.url = login.url
        headers = {"Authorization": f"Bearer {login.token}"} if login.token else {}
        self._http = httpx.Client(
            base_url=login.url,
            headers=headers,
            timeout=PATIENCE_SECONDS,
            # A proxy of the environment leads out of this machine, never back to it.
            trust_env=not is_this_machine(login.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **parameters: str | int | bool | None) -> Any:
        """The results of a GET."""
        return self.request("GET", path, parameters=parameters)["results"]

    def post(
        self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None, **parameters: str | int | bool | None
    ) -> Any:
        """The results of a POST, done once however often it is asked for under the same `key`."""
        return self.request("POST", path, body=body, parameters=parameters, key=key)["results"]

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """The results of a PUT."""
        return self.request("PUT", path, body=body)["results"]

    def delete(self, path: str) -> Any:
        """The results of a DELETE."""
        return self.request("DELETE", path)["results"]

    def pages(self, path: str, *, limit: int | None = None, **parameters: str | int | bool | None) -> list[dict[str, Any]]:
        """The rows of a list, page after page, up to `limit`."""
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while limit is None or len(rows) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(rows))
            answer = self.request("GET", path, parameters={**parameters, "limit": size, "cursor": cursor})
            rows += answer["results"]
            cursor = answer.get("next_cursor")
            if cursor is None:
                break
        return rows

    def upload(
        self,
        path: str,
        name: str,
        file: BinaryIO,
        fields: Mapping[str, str] | None = None,
        *,
        content_type: str = "application/octet-stream",
    ) -> Any:
        """The results of a POST of a file, which is read as it is sent, and of the form's other fields."""
        with _translated(self.url):
            # A large file is answered when it is stored, however long that takes.
            timeout = httpx.Timeout(PATIENCE_SECONDS, read=None)
            response = self._http.post(path, files={"file": (name, file, content_type)}, data=fields, timeout=timeout)
            _check(response)
            return response.json()["results"]

    @contextmanager
    def download(self, path: str, **parameters: str | int | bool | None) -> Iterator[Iterator[bytes]]:
        """The content that a GET answers with, piece by piece."""
        with _translated(self.url), self._http.stream("GET", path, params=_given(parameters)) as response:
            if not response.is_success:
                response.read()
            _check(response)
            yield response.iter_bytes()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        parameters: Parameters | None = None,
        key: str | None = None,
    ) -> Any:
        """The whole answer to a request with a JSON body or none."""
        headers = {} if key is None else {"Idempotency-Key": key}
        with _translated(self.url):
            response = self._http.request(method, path, json=body, params=_given(parameters or {}), headers=headers)
            _check(response)
            return response.json()


def is_this_machine(url: str) -> bool:
    """Whether an address is one of this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _given(parameters: Parameters) -> dict[str, str | int | bool]:
    return {name: value for name, value in parameters.items() if value is not None}


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CommandError(f"{url} is no address of Siaran: {error}", ExitCode.USAGE, "USAGE") from error
    except httpx.TimeoutException as error:
        raise Unreachable(f"Siaran at {url} did not answer in time", name="UNAVAILABLE") from error
    except httpx.HTTPError as error:
        advice = "is it running? Start it with `siaran up`, or set SIARAN_URL"
        raise Unreachable(f"cannot reach Siaran at {url} ({error}): {advice}", name="UNAVAILABLE") from error
    except ValueError as error:
        raise CommandError(f"{url} answers, but not as Siaran does") from error


def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    problem = _problem(response)
    kind = Unreachable if response.status_code in AWAY else CommandError
    detail = problem.get("detail") or f"{response.url} answered {response.status_code} {response.reason_phrase}"
    if response.status_code == 401 and "authorization" in response.request.headers:
        detail = f"{detail.rstrip('.')}; your login has ended or was refused: run `siaran login`"
    raise kind(
        detail,
        EXIT_CODES.get(response.status_code, ExitCode.FAILED),
        problem.get("code") or "FAILED",
        [RefusedField(str(refused["field"]), str(refused["reason"])) for refused in problem.get("errors", [])],
    )


def _problem(response: httpx.Response) -> dict[str, Any]:
    """The body of an error, empty where it is none of ours: a proxy may have answered."""
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
