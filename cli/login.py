"""`siaran login` and `siaran logout`."""

import sys
from typing import Annotated

import typer

from cli.errors import CommandError, ExitCode, usage_error
from cli.logins import KEY_VARIABLE, Login, clean_url, forget_login, present_url, store_login, stored_login
from cli.output import print_for
from cli.session import Json, connected, reported


def login(
    url: Annotated[str | None, typer.Option(help="Address of Siaran.", show_default="$SIARAN_URL, else the last one")] = None,
    email: Annotated[str | None, typer.Option(help="Your email address; asked for if left out.")] = None,
    api_key: Annotated[bool, typer.Option("--api-key", help="Log in with an API key instead of email and password.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password, or the key, from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Log in, and stay logged in for the commands that follow."""
    with reported(as_json):
        address = clean_url(url) if url else present_url()
        secret_name = "API key" if api_key else "Password"
        if not api_key and email is None:
            if password_stdin:
                raise usage_error("--password-stdin needs --email")
            email = str(typer.prompt("Email", err=True))
        secret = sys.stdin.readline().rstrip("\r\n") if password_stdin else _ask(secret_name)
    token = secret
    if email is not None and not api_key:
        with connected(as_json, Login(address)) as client:
            token = client.request("POST", "/api/login", body={"email": email, "password": secret})["token"]
    with connected(as_json, Login(address, token)) as client:
        account = client.get("/api/me")
        path = store_login(Login(address, token))
    document = {"url": address, "email": account["email"], "stored_in": str(path)}
    print_for(as_json, document, f"Logged in to {address} as {account['email']}.")


def logout(as_json: Json = False) -> None:
    """End the login, here and on the server."""
    with reported(as_json):
        stored = stored_login()
        if stored is None:
            raise CommandError(
                f"there is no stored login to end; one in {KEY_VARIABLE} is not ours", ExitCode.NOT_LOGGED_IN, "UNAUTHORIZED"
            )
        forget_login()
    with connected(as_json, stored) as client:
        client.request("POST", "/api/logout")
    print_for(as_json, {"url": stored.url, "logged_out": True}, f"Logged out of {stored.url}.")


def _ask(name: str) -> str:
    return str(typer.prompt(name, hide_input=True, err=True))
