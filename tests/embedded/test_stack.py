"""The embedded servers: data that survives kills and restarts, clear refusals, and nothing left behind."""

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from temporalio.client import Client, WorkflowExecutionStatus

from siaran.embedded.errors import ChildFailed, FolderInUse, PortTaken
from siaran.embedded.options import StackOptions
from siaran.embedded.runtime import read_runtime
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings
from tests.waiting import eventually

QUICK = StackOptions(postgres_fsync=False).with_free_ports()
ROOT = Path(__file__).parents[2]

START_AND_WAIT = """
import asyncio, sys
from pathlib import Path
from siaran.embedded.options import StackOptions
from siaran.embedded.stack import EmbeddedStack
from siaran.settings import Settings

async def main():
    options = StackOptions(postgres_fsync=False).with_free_ports()
    async with EmbeddedStack(Settings(data_dir=Path(sys.argv[1])), options) as stack:
        print(stack.options.model_dump_json(), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def processes_on(folder: Path) -> list[psutil.Process]:
    """Every process that works in `folder` or names it on its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([process.cwd(), *process.cmdline()]):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            continue
    return found


def open_stack(data_dir: Path, options: StackOptions = QUICK) -> EmbeddedStack:
    return EmbeddedStack(Settings(data_dir=data_dir), options)


async def kill_and_wait(stack: EmbeddedStack, name: str) -> None:
    pid = stack.supervisor.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: stack.supervisor.pid(name) not in {pid, None})
    await stack.supervisor.wait_until_ready(name)


async def write_rows(stack: EmbeddedStack) -> None:
    async with await psycopg.AsyncConnection.connect(stack.environment["DB_URI"], autocommit=True) as connection:
        await connection.execute("CREATE TABLE kept (id int)")
        await connection.execute("INSERT INTO kept VALUES (1), (2)")
    async with Redis.from_url(stack.environment["SIARAN_NETWORK_URL"]) as network:
        await network.rpush("kept", "1", "2")
    client = await Client.connect(stack.environment["TEMPORAL_ADDRESS"])
    await client.start_workflow("Kept", id="kept", task_queue="nobody")


async def assert_rows(stack: EmbeddedStack) -> None:
    async with await psycopg.AsyncConnection.connect(stack.environment["DB_URI"]) as connection:
        assert await (await connection.execute("SELECT count(*) FROM kept")).fetchone() == (2,)
    async with Redis.from_url(stack.environment["SIARAN_NETWORK_URL"]) as network:
        assert await network.lrange("kept", 0, -1) == [b"1", b"2"]
    client = await Client.connect(stack.environment["TEMPORAL_ADDRESS"])
    assert (await client.get_workflow_handle("kept").describe()).status is WorkflowExecutionStatus.RUNNING


async def test_every_killed_server_comes_back_with_its_data_on_its_port(data_dir: Path) -> None:
    async with open_stack(data_dir) as stack:
        await write_rows(stack)
        for name in ("postgres", "valkey", "network", "temporal"):
            await kill_and_wait(stack, name)
        await assert_rows(stack)
        assert {state.name: state.restarts for state in stack.supervisor.states()} == dict.fromkeys(
            ("postgres", "valkey", "network", "temporal"), 1
        )


async def test_postgres_comes_back_although_a_session_was_open_and_a_stranger_has_its_old_pid(data_dir: Path) -> None:
    async with open_stack(data_dir) as stack:
        async with await psycopg.AsyncConnection.connect(stack.environment["DB_URI"]) as connection:
            await connection.execute("SELECT 1")
            lock_file = data_dir / "postgres" / "postmaster.pid"
            await kill_and_wait(stack, "postgres")
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT 1")
        lock_file.write_text(f"{os.getpid()}\n" + lock_file.read_text().partition("\n")[2])
        await kill_and_wait(stack, "postgres")


async def test_a_clean_stop_leaves_no_process_and_a_new_start_finds_the_data(data_dir: Path) -> None:
    async with open_stack(data_dir) as stack:
        await write_rows(stack)
        secret = stack.environment["SIARAN_SECRET"]
    assert processes_on(data_dir) == []
    assert read_runtime(data_dir) is None
    async with open_stack(data_dir) as stack:
        await assert_rows(stack)
        assert stack.environment["SIARAN_SECRET"] == secret


async def test_the_servers_die_with_a_killed_parent_and_start_again_on_the_same_ports(data_dir: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START_AND_WAIT, str(data_dir)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    options = StackOptions.model_validate_json(await parent.stdout.readline())
    assert len(processes_on(data_dir)) > 4
    parent.kill()
    await parent.wait()
    async with open_stack(data_dir, options) as stack:
        await write_rows(stack)
    assert processes_on(data_dir) == []


async def test_the_servers_are_gone_soon_after_their_parent_was_killed(data_dir: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START_AND_WAIT, str(data_dir)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    await parent.stdout.readline()
    parent.kill()
    await parent.wait()
    await eventually(lambda: processes_on(data_dir) == [])


async def test_a_taken_port_is_named_with_its_server_and_its_variable(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as refusal:
            async with open_stack(data_dir, QUICK.model_copy(update={"postgres_port": port})):
                pass
    assert f"Port {port} for PostgreSQL" in str(refusal.value)
    assert "SIARAN_POSTGRES_PORT" in str(refusal.value)
    assert processes_on(data_dir) == []


async def test_a_second_stack_on_the_same_folder_is_refused(data_dir: Path) -> None:
    async with open_stack(data_dir):
        with pytest.raises(FolderInUse, match=rf"{data_dir} \(process {os.getpid()}\).*SIARAN_DATA_DIR"):
            async with open_stack(data_dir):
                pass
        assert read_runtime(data_dir) is not None


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(data_dir: Path) -> None:
    async with open_stack(data_dir):
        pass
    (data_dir / "postgres" / "PG_VERSION").write_text("9.1\n")
    with pytest.raises(ChildFailed, match="database files are incompatible with server"):
        async with open_stack(data_dir):
            pass
    assert processes_on(data_dir) == []


async def test_only_what_the_environment_lacks_is_started(data_dir: Path) -> None:
    given = Settings(
        data_dir=data_dir,
        database_url=SecretStr("postgresql://somewhere/else"),
        temporal_address="elsewhere:7233",
        network_url=SecretStr("redis://elsewhere"),
        secret=SecretStr("given"),
    )
    async with EmbeddedStack(given, QUICK) as stack:
        assert [state.name for state in stack.supervisor.states()] == ["valkey"]
        assert set(stack.environment) == {"REDIS_URL", "SIARAN_DATA_DIR"}
        assert stack.settings.temporal_address == "elsewhere:7233"
        assert stack.settings.redis_dsn == stack.environment["REDIS_URL"]


async def test_with_servers_of_its_own_a_deployment_gets_no_simulated_network(data_dir: Path) -> None:
    given = Settings(
        data_dir=data_dir,
        database_url=SecretStr("postgresql://somewhere/else"),
        redis_url=SecretStr("redis://elsewhere"),
        temporal_address="elsewhere:7233",
    )
    async with EmbeddedStack(given, QUICK) as stack:
        assert stack.supervisor.states() == []


async def test_no_server_answers_without_its_password_and_no_secret_is_readable_by_others(data_dir: Path) -> None:
    async with open_stack(data_dir) as stack:
        url = stack.environment["DB_URI"]
        password = url.split(":")[2].partition("@")[0]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(url.replace(password, "guess"))
        for port in (stack.options.valkey_port, stack.options.network_port):
            async with Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger:
                with pytest.raises(AuthenticationError):
                    await stranger.ping()
        assert not any(password in " ".join(process.cmdline()) for process in processes_on(data_dir))
        for name in ("secrets.json", "runtime.json", "valkey/valkey.conf", "logs/postgres.log"):
            assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600


async def test_the_runtime_file_tells_other_programs_what_runs(data_dir: Path) -> None:
    async with open_stack(data_dir) as stack:
        await kill_and_wait(stack, "valkey")
        runtime = read_runtime(data_dir)
        assert runtime is not None
        assert runtime.owner.pid == os.getpid()
        assert runtime.environment == stack.environment
        assert runtime.ports["postgres"] == stack.options.postgres_port
        assert runtime.children == stack.supervisor.states()
