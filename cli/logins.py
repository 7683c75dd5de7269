"""Where the command line is logged in to: the environment's address and key, else what `siaran login` stored."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from cli.errors import CommandError, ExitCode
from siaran.embedded.files import write_private

URL_VARIABLE = "SIARAN_URL"
KEY_VARIABLE = "SIARAN_API_KEY"
DEFAULT_URL = "http://127.0.0.1:3000"


@dataclass(frozen=True, slots=True)
class Login:
    """An address and the token for it, empty if there is none."""

    url: str
    token: str = ""


def stored_path() -> Path:
    """The file of the stored login, in the user's configuration folder."""
    return Path(typer.get_app_dir("siaran")) / "login.json"


def stored_login() -> Login | None:
    """What `siaran login` stored; raises `CommandError` for a file that is none of ours."""
    path = stored_path()
    try:
        return Login(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise CommandError(f"{path} cannot be read; log in again with `siaran login`", ExitCode.NOT_LOGGED_IN) from None


def store_login(login: Login) -> Path:
    """Keep a login for the commands that follow, readable by its owner only; returns the file."""
    path = stored_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, json.dumps(asdict(login)) + "\n")
    return path


def forget_login() -> bool:
    """Remove the stored login; returns whether there was one."""
    path = stored_path()
    found = path.exists()
    path.unlink(missing_ok=True)
    return found


def clean_url(url: str) -> str:
    """An address of the API as commands use it."""
    return (url if "://" in url else f"http://{url}").rstrip("/")


def present_url() -> str:
    """The address that commands talk to."""
    stored = stored_login()
    return clean_url(os.environ.get(URL_VARIABLE) or (stored.url if stored else DEFAULT_URL))


def present_login() -> Login:
    """The login that commands use; raises `CommandError` when there is none for the address.

    A stored token is only ever shown to the address that gave it.
    """
    url = present_url()
    if key := os.environ.get(KEY_VARIABLE):
        return Login(url, key)
    stored = stored_login()
    if stored is None or stored.url != url or not stored.token:
        raise CommandError(
            f"you are not logged in to {url}: run `siaran login`, or set {KEY_VARIABLE} to an API key",
            ExitCode.NOT_LOGGED_IN,
            "UNAUTHORIZED",
        )
    return stored
