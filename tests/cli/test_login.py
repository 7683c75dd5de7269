"""Logging in: where the login is kept, which one is used, and what the shell sees of it."""

import asyncio
import json
import stat
from dataclasses import replace

from cli.client import Client
from cli.logins import Login
from siaran.settings import Settings
from tests.cli.conftest import EMAIL, PASSWORD, Shell, listening


def stored_token(shell: Shell) -> str:
    return str(json.loads((shell.folder / "siaran" / "login.json").read_text())["token"])


async def test_a_login_is_stored_for_its_owner_alone(shell: Shell, url: str):
    file = shell.folder / "siaran" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in file.read_text()
    assert (await shell.json("devices", "list")) == []


async def test_the_password_is_asked_for_and_not_shown(shell: Shell, url: str):
    run = await shell.done("login", stdin=f"{EMAIL}\n{PASSWORD}\n")
    assert f"Logged in to {url} as {EMAIL}." in run.out
    assert PASSWORD not in run.out + run.err


async def test_a_wrong_password_is_refused_and_changes_nothing(shell: Shell):
    run = await shell.run("login", "--email", EMAIL, "--password-stdin", stdin="wrong password 1\n")
    assert run.exit_code == 3
    assert "wrong email or password" in run.err
    await shell.done("devices", "list")


async def test_without_a_login_every_command_says_how_to_log_in(stranger: Shell):
    run = await stranger.run("campaigns", "list")
    assert run.exit_code == 3
    assert "siaran login" in run.err
    assert run.out == ""


async def test_with_json_an_error_is_the_one_document(stranger: Shell):
    run = await stranger.run("campaigns", "list", "--json")
    assert run.exit_code == 3
    assert run.document()["code"] == "UNAUTHORIZED"
    assert run.err == ""


async def test_a_key_in_the_environment_comes_before_the_stored_login(shell: Shell):
    run = await shell.run("devices", "list", SIARAN_API_KEY="not-a-key")
    assert run.exit_code == 3
    assert "siaran login" in run.err


async def test_an_api_key_can_be_logged_in_with(shell: Shell, url: str):
    with Client(Login(url, stored_token(shell))) as client:
        key = (await asyncio.to_thread(client.post, "/api/api-keys", {"name": "nightly import"}))["key"]
    keyed = replace(shell, folder=shell.folder / "other")
    run = await keyed.done("login", "--api-key", "--password-stdin", "--json", stdin=f"{key}\n")
    assert run.document()["email"] == EMAIL
    await keyed.done("devices", "list")
    assert (await keyed.run("devices", "list", SIARAN_API_KEY=key)).exit_code == 0


async def test_a_stored_token_is_not_shown_to_another_address(shell: Shell, settings: Settings):
    async with listening(settings) as other:
        run = await shell.run("devices", "list", SIARAN_URL=other)
    assert run.exit_code == 3
    assert f"not logged in to {other}" in run.err


async def test_logging_out_ends_the_session_on_the_server_too(shell: Shell, url: str):
    token = stored_token(shell)
    await shell.done("logout")
    assert (await shell.run("devices", "list")).exit_code == 3
    assert (await shell.run("devices", "list", SIARAN_API_KEY=token)).exit_code == 3


async def test_an_api_that_does_not_answer_is_said_to_be_away(shell: Shell):
    run = await shell.run("devices", "list", SIARAN_URL="http://127.0.0.1:9", SIARAN_API_KEY="key")
    assert run.exit_code == 1
    assert "siaran up" in run.err
    assert "Traceback" not in run.err
