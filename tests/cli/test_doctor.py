"""`siaran doctor`: what it finds on a machine and on servers, and what the shell sees of it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.client import Client

from siaran.db import SessionMaker
from siaran.embedded.options import PORTS
from siaran.settings import Settings
from tests.cli.conftest import Run, Shell
from worker.schedule import schedule_sweep

ANY_PORT = {variable: "0" for _, variable in PORTS.values() if variable != "APP_PORT"}


@pytest.fixture
def bare(tmp_path: Path) -> Shell:
    """A machine on which nothing of Siaran runs."""
    return Shell(tmp_path / "config", {"SIARAN_DATA_DIR": str(tmp_path / "data"), **ANY_PORT, "APP_PORT": "9"})


@pytest.fixture
def equipped(bare: Shell, settings: Settings) -> Shell:
    """A machine whose variables name this test's servers."""

    def shown(secret: SecretStr | None) -> str:
        return secret.get_secret_value() if secret else ""

    bare.variables |= {
        "DB_URI": shown(settings.database_url),
        "REDIS_URL": shown(settings.redis_url),
        "SIARAN_NETWORK_URL": shown(settings.network_url),
        "TEMPORAL_ADDRESS": settings.temporal_address or "",
        "TEMPORAL_NAMESPACE": settings.temporal_namespace,
    }
    return bare


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def verdicts(run: Run) -> dict[str, Any]:
    return {check["name"]: check["verdict"] for check in run.document()["checks"]}


async def test_a_machine_on_which_nothing_runs_is_well(bare: Shell):
    run = await bare.run("doctor", "--json")
    found = verdicts(run)
    assert run.exit_code == 0
    assert run.document()["ok"] is True
    for program in ("PostgreSQL", "Valkey", "Temporal"):
        assert found[f"program of {program}"] == "ok"
    assert found["PostgreSQL"] == found["Redis"] == found["Temporal"] == found["API"] == "skipped"


async def test_a_port_that_is_taken_is_a_fault_with_advice(bare: Shell, taken_port: int):
    run = await bare.run("doctor", SIARAN_POSTGRES_PORT=str(taken_port))
    assert run.exit_code == 1
    assert f"{taken_port} is taken" in run.out
    assert "set SIARAN_POSTGRES_PORT to another port" in run.out


async def test_servers_that_are_prepared_are_well_but_for_the_missing_worker(equipped: Shell, temporal_client: Client):
    found = verdicts(await equipped.run("doctor", "--json"))
    for name in ("PostgreSQL", "clock", "schema", "Redis", "simulated network", "Temporal", "search attributes"):
        assert found[name] in {"ok", "warning"}, name  # a busy machine may answer slowly
    assert found["worker"] == found["sweep"] == "failed"
    assert found["program of PostgreSQL"] == "skipped"
    await schedule_sweep(temporal_client)
    assert verdicts(await equipped.run("doctor", "--json"))["sweep"] == "ok"


async def test_a_schema_that_is_not_the_newest_is_a_fault_with_advice(equipped: Shell, sessions: SessionMaker):
    async with sessions.begin() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    run = await equipped.run("doctor")
    assert run.exit_code == 1
    assert "is 0000" in run.out
    assert "siaran migrate" in run.out


async def test_a_server_that_is_away_is_a_fault(equipped: Shell, taken_port: int):
    away = {"DB_URI": "postgresql://siaran:secret@127.0.0.1:9/siaran", "REDIS_URL": "redis://127.0.0.1:9/0"}
    run = await equipped.run("doctor", "--json", **away)
    found = verdicts(run)
    assert run.exit_code == 1
    assert found["PostgreSQL"] == found["Redis"] == "failed"
    assert found["simulated network"] == "ok"
    assert "secret" not in run.out


@pytest.mark.usefixtures("url")
async def test_the_published_password_is_a_fault_where_others_can_connect(equipped: Shell):
    assert verdicts(await equipped.run("doctor", "--json"))["administrator"] == "warning"
    assert verdicts(await equipped.run("doctor", "--json", SIARAN_BIND="0.0.0.0"))["administrator"] == "failed"


async def test_an_api_that_listens_is_found(equipped: Shell, url: str):
    assert verdicts(await equipped.run("doctor", "--json", APP_PORT=url.rpartition(":")[2]))["API"] in {"ok", "warning"}


async def test_a_variable_that_makes_no_sense_is_named(bare: Shell):
    run = await bare.run("doctor", SIARAN_DEFAULT_COUNTRY="Malaysia")
    assert run.exit_code == 2
    assert "SIARAN_DEFAULT_COUNTRY" in run.err


async def test_a_process_without_its_servers_says_which_one_is_missing(bare: Shell):
    for command in ("api", "worker", "fleet", "migrate"):
        run = await bare.run(command)
        assert run.exit_code == 1
        assert "DB_URI" in run.err


async def test_the_schema_is_brought_up_to_date(equipped: Shell, sessions: SessionMaker):
    async with sessions.begin() as session:
        await session.execute(text("DROP SCHEMA public CASCADE"))
        await session.execute(text("CREATE SCHEMA public"))
    await equipped.done("migrate")
    assert verdicts(await equipped.run("doctor", "--json"))["schema"] == "ok"
